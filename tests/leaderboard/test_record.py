"""The form of a record, and the hashes in it."""

import hashlib
import json
import re

import pytest
from make_records import HASH, measured, published
from pydantic import ValidationError

from mmrev.leaderboard.environment import hardware, software
from mmrev.leaderboard.fingerprint import config_sha256, dataset_sha256, portable
from mmrev.leaderboard.record import SCHEMA, best_value, main_metric
from mmrev.leaderboard.store import read_record
from mmrev.leaderboard.table import conditions, markdown


@pytest.mark.parametrize("record", [measured(), published()])
def test_kinds_are_told_apart_and_come_back(record):
    again = SCHEMA.validate_json(record.to_bytes(), strict=True)
    assert again == record and type(again) is type(record)


def test_id_is_the_hash_of_all_else():
    record = measured()
    assert measured().id == record.id
    assert measured(wall_time=2.0).id != record.id
    for name, value in record.model_dump(mode="json").items():
        changed = json.loads(record.to_bytes())
        if name in ("id", "kind", "schema_version"):
            continue
        changed[name] = None if value is not None else {"name": "a", "sha256": HASH}
        with pytest.raises(ValidationError):
            SCHEMA.validate_python(changed)
    text = record.to_bytes().decode().replace("0.4904", "0.4905")
    with pytest.raises(ValidationError, match="altered: its id is"):
        SCHEMA.validate_json(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": {"sha256": "short"}}, "pattern"),
        ({"unknown": 1}, "Extra inputs"),
        ({"metrics": {"mIoU": "high"}}, "valid number"),
        ({"metrics": {}}, "at least 1"),
        ({"metrics": {"x": float("nan")}}, "finite number or null, got nan"),
        ({"metrics": {"x": float("inf")}}, "finite number or null, got inf"),
        ({"metrics": {"coco/bbox_mAP_50": 1.5}}, r"coco/bbox_mAP_50: expected 0\.\.1"),
        ({"metrics": {"coco/segm_person_precision": -0.5}}, "or -1 for none"),
        ({"metrics": {"coco/AR@100": 2}}, r"0\.\.1"),
        ({"metrics": {"coco/boundary_mAP": 30}}, r"boundary_mAP: expected 0\.\.1"),
        ({"metrics": {"coco_panoptic/PQ": 100.5}}, r"PQ: expected 0\.\.100"),
        ({"metrics": {"coco_panoptic/RQ_st": -1}}, r"RQ_st: expected 0\.\.100"),
        ({"metrics": {"coco_panoptic/traffic light_PQ": 101}}, r"0\.\.100"),
        ({"metrics": {"mIoU": 100.5}}, r"mIoU: expected 0\.\.100"),
        ({"metrics": {"accuracy/top1": -1}}, r"0\.\.100"),
        ({"model": {"name": "n" * 201}}, "at most 200"),
        ({"model": {"name": "\x1b[2J"}}, "printable"),
        ({"model": {"name": "\u202eabc"}}, "printable"),
        ({"model": {"params": -1}}, "greater than or equal to 0"),
        ({"dataset": {"images_evaluated": 5}}, r"images_expected=4 .* got 5 \+ 0"),
        ({"training": {"curves": {"loss": {"steps": [1], "values": []}}}}, "as many"),
        (
            {"training": {"curves": {"loss": {"steps": [1] * 201, "values": []}}}},
            "at most 200",
        ),
        ({"config": {"resolved": {"a": float("inf")}}}, "not JSON compliant"),
        ({"task": "tracking"}, "Input should be"),
    ],
)
def test_form_is_strict(changes, said):
    with pytest.raises(ValidationError, match=said):
        measured(**changes)


def test_a_published_figure_needs_its_source():
    with pytest.raises(ValidationError, match="source"):
        published(source=None)
    with pytest.raises(ValidationError, match="url"):
        published(source={"title": "a", "url": "javascript:alert(1)", "where": "b"})


def test_panoptic_figures_are_percents():
    metrics = {"coco_panoptic/SQ": 77.0, "coco_panoptic/PQ": 45.5}
    record = measured(task="panoptic segmentation", metrics=metrics)
    assert main_metric(record) == "coco_panoptic/PQ"
    assert best_value("coco_panoptic/PQ") == 100
    assert best_value("coco/boundary_mAP") == 1


def test_nothing_to_find_is_a_metric():
    assert measured(metrics={"coco/bbox_mAP_l": -1}).metrics == {"coco/bbox_mAP_l": -1}


def test_main_metric_is_the_tasks():
    metrics = {"coco/bbox_mAP": 0.1, "coco/segm_mAP": 0.2}
    record = measured(task="instance segmentation", metrics=metrics)
    assert main_metric(record) == "coco/segm_mAP"
    assert main_metric(measured(metrics={"pascal_voc/mAP": 0.5})) == "pascal_voc/mAP"


def test_schema_names_both_kinds():
    schema = SCHEMA.json_schema()
    assert schema["discriminator"]["mapping"].keys() == {"measured", "published"}
    fields = schema["$defs"]["MeasuredRecord"]["properties"]
    assert fields["schema_version"]["enum"] == [2, 3, 4, 5, 6, 7]


def test_environment_is_a_part_of_a_record():
    record = measured(software=software(), hardware=hardware())
    assert record.software.packages.keys() >= {"torch", "mmdet", "mmrev"}
    assert re.fullmatch(r"[0-9a-f]{40}", record.software.commit or "0" * 40)
    assert record.hardware.cores >= 1


def test_what_computed_mmcvs_ops_is_told():
    def told(ops):
        return measured(software={"ops": ops}).software.ops_told

    assert told({"all": "compiled"}) == "compiled"
    ops = {"ms_deform_attn": "torch", "nms": "torchvision", "roi_align": "torchvision"}
    assert told(ops) == "ms_deform_attn by torch; nms, roi_align by torchvision"
    assert told({}) == "none ran"
    old = measured()
    assert old.software.ops_told == "unknown"
    assert "ops" not in json.loads(old.to_bytes())["software"]


def test_records_of_schema_2_are_read_and_written_as_they_are(tmp_path):
    """As mmrev wrote them: without the fields that came later."""
    for record in (measured(), published()):
        content = json.loads(record.to_bytes())
        del content["id"]
        content["schema_version"] = 2
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        content["id"] = hashlib.sha256(canonical.encode()).hexdigest()
        order = ("schema_version", "id", *content)
        text = json.dumps({name: content[name] for name in order}, indent=2) + "\n"
        (tmp_path / "old.json").write_text(text)
        assert read_record(tmp_path / "old.json").to_bytes() == text.encode()
    assert list(json.loads(measured().to_bytes())["dataset"]) == [
        *("name", "split", "type", "root", "fingerprint"),
        *("images_expected", "images_evaluated", "images_unreadable"),
    ]


def stage(name, digit, *starts, **facts):
    """A stage of a lineage; `digit` stands for its hash."""
    checkpoint = {"name": f"{name}.pth", "sha256": digit * 64}
    return {
        **{"name": name, "kind": "weights", "checkpoint": checkpoint},
        **({"starts": list(starts)} if starts else {}),
        **facts,
    }


def test_a_lineage_is_told_first_to_last(tmp_path):
    released = stage("in1k", "1")
    first = stage("objects365", "2", released, kind="DINO", epochs=12, seed=0)
    other = stage("ade20k", "3", released, kind="MaskFormer", iterations=160_000)
    record = measured(training={"lineage": [first, other]})
    assert record.training.origins == ["in1k", "objects365", "ade20k"]
    assert [s.length for s in record.training.stages][1:] == [
        *("12 epochs", "160000 iterations")
    ]
    assert conditions(record) == "from in1k + objects365 + ade20k; 1 epoch"
    (tmp_path / "a.json").write_bytes(record.to_bytes())
    assert read_record(tmp_path / "a.json") == record
    # What is unknown is left out, and so are lineage and track of earlier records.
    written = json.loads(record.to_bytes())["training"]["lineage"]
    assert written == [first, other]
    told = json.loads(measured().to_bytes())
    assert not {"lineage", "track"} & told["training"].keys()


def test_ends_of_several_chains_are_told_apart():
    alone = measured(training={"lineage": [stage("in1k", "1")]})
    chain = [stage("objects365", "2", stage("in1k", "1"), kind="DINO")]
    after = measured(training={"lineage": chain}, config={"resolved": {"a": 1}})
    assert "(from" not in markdown([alone])
    text = markdown([alone, after])
    assert "a\\|b (from in1k) |" in text
    assert "a\\|b (from in1k + objects365) |" in text


@pytest.mark.parametrize(
    ("lineage", "said"),
    [
        ([stage("a", "1", {"name": "b", "kind": "DINO"})], "checkpoint"),
        ([stage("a", "short")], "pattern"),
        ([stage("a", "1") for _ in range(101)], "at most 100 stages"),
        ([stage("a", "1", epochs=-1)], "greater than or equal to 0"),
        ([stage("\x1b", "1")], "printable"),
        ({"a": 1}, "valid list"),
    ],
)
def test_a_lineage_is_strict(lineage, said):
    with pytest.raises(ValidationError, match=said):
        measured(training={"lineage": lineage})


def test_a_lineage_that_repeats_itself_ends():
    again = endless = stage("a", "1")
    for _ in range(50):
        again = stage("a", "1", again, again)
    endless["starts"] = [endless]
    for lineage in ([again], [endless]):
        with pytest.raises(ValidationError) as caught:
            measured(training={"lineage": lineage})
        (error,) = caught.value.errors(include_input=False)
        assert "at most 100 stages, got more" in error["msg"]


def test_activated_parameters_and_track_are_told():
    record = measured(
        model={"params": 40_000_000, "params_activated": 30_000_000},
        training={"track": "frozen"},
    )
    assert "| 40.0M (30.0M activated) |" in markdown([record])
    assert conditions(record) == "frozen; 1 epoch"
    with pytest.raises(ValidationError, match="'frozen', 'tuned' or 'scratch'"):
        measured(training={"track": "thawed"})
    assert "params_activated" not in json.loads(measured().to_bytes())["model"]


def test_config_hash_ignores_machine_and_key_order():
    config = {
        "model": {"depth": 2, "width": 3},
        "work_dir": "here",
        "data": [{"b": (1, 2)}],
        "set": {"data_root": "/data/coco/"},
        "evaluator": {"ann_file": "/data/coco/annotations/val.json"},
    }
    other = {
        "data": [{"b": [1, 2]}],
        "work_dir": "there",
        "model": {"width": 3, "depth": 2},
        "set": {"data_root": "/home/me/coco"},
        "evaluator": {"ann_file": "/home/me/coco/annotations/val.json"},
        "expected_results": {"metric": "mIoU", "value": 1, "tolerance": 1},
    }
    assert config_sha256(config) == config_sha256(other)
    assert config_sha256(config) != config_sha256({**config, "model": {"depth": 3}})
    # What a record holds hashes to the same, infinity included.
    stored = json.loads(json.dumps(portable({**config, "range": float("inf")})))
    assert config_sha256(stored) == config_sha256({**config, "range": float("inf")})
    assert "home" not in json.dumps(portable(other))


def test_a_data_root_is_cut_at_whole_names():
    config = {
        "set": {"data_root": "data", "ann_file": "data/a.json", "kind": "data_thing"},
        "others": ["database/a", "data", "a/data/b", {"data_root": "/mnt/x/"}],
        "paths": ["/mnt/x/a", "/mnt/xyz/a", "/mnt/x"],
    }
    assert portable(config) == {
        "set": {"ann_file": "a.json", "kind": "data_thing"},
        "others": ["database/a", "", "a/data/b", {}],
        "paths": ["a", "/mnt/xyz/a", ""],
    }


def test_dataset_hash_sees_names_contents_and_sizes(tmp_path):
    def hashed(files: dict[str, bytes]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return dataset_sha256(None, [folder])

    files = {"a/1.png": b"one", "2.png": b"two"}
    same = hashed(files)
    assert hashed(dict(reversed(files.items()))) == same
    long = bytes(70_000)
    others = [
        hashed({"a/1.png": b"one", "2.png": b"tw0"}),
        hashed({"a/1.png": b"one", "3.png": b"two"}),
        hashed({"a/1.png": b"one"}),
        hashed({**files, "3.png": long}),
        hashed({**files, "3.png": long + b"0"}),
    ]
    assert len({same, *others}) == 6
