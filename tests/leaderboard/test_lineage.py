"""What a record tells of the training."""

import json

import pytest
import torch
from make_records import measured

from mmrev.checkpoints import load_backbone, save_state_dict
from mmrev.hashes import file_sha256
from mmrev.leaderboard.lineage import (
    LINEAGE_KEY,
    PROCESSES_KEY,
    SKIPPED_KEY,
    convert_told,
    stage_of,
    starting_stages,
    training_info,
    training_of,
)
from mmrev.leaderboard.table import conditions
from mmrev.registry import MODELS

CONFIG = {
    "model": {
        "backbone": {
            "anchors": [
                {"init_cfg": {"type": "Pretrained", "checkpoint": "data/a/small.pth"}},
                {"init_cfg": {"type": "Pretrained", "checkpoint": "https://a.org/b"}},
            ]
        },
        "neck": {"init_cfg": None},
        # mmengine takes a list, too.
        "head": {
            "init_cfg": [
                {"type": "Normal", "layer": "Conv2d"},
                {"type": "Pretrained", "checkpoint": "head.pth"},
            ]
        },
    },
    "train_cfg": {"max_epochs": 3},
    "train_dataloader": {
        "dataset": {
            "type": "RepeatDataset",
            "dataset": {"type": "CocoDataset", "ann_file": "annotations/train.json"},
        }
    },
}


def test_starts_data_and_length():
    found = training_info(CONFIG, "/home/me/o365.pth", {"epoch": 3, "iter": 30}, "x")
    assert found.pretraining == [
        *("small.pth", "https://a.org/b", "head.pth", "o365.pth")
    ]
    assert found.data == "CocoDataset annotations/train.json"
    assert (found.epochs, found.iterations, found.curves) == (3, 30, {})
    loop = {**CONFIG, "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 30}}
    assert training_info(loop, None, {"epoch": 0, "iter": 30}, "x").epochs is None


def test_data_sets_that_are_joined_are_all_named():
    sets = [
        {"type": "CocoDataset", "ann_file": "a.json"},
        {"type": "RepeatDataset", "dataset": {"type": "CocoDataset", "ann_file": "b"}},
        {"type": "ADE20KDataset", "data_prefix": {"img_path": "images/train"}},
    ]
    joined = {"type": "ConcatDataset", "datasets": sets}
    mixed = {"type": "MultiImageMixDataset", "pipeline": [], "dataset": joined}
    found = training_info({"train_dataloader": {"dataset": mixed}}, None, {"a": 1}, "x")
    names = ("CocoDataset a.json", "CocoDataset b", "ADE20KDataset images/train")
    assert found.data == ", ".join(names)


def test_what_became_of_the_backbone():
    """The training knows best; then the config that it is tested with."""
    backbone = {"type": "mmrev.RevCol", "init_cfg": {"checkpoint": "a.pth"}}
    config = {**CONFIG, "model": {"backbone": backbone}}
    frozen = {"type": "mmrev.FrozenBackbone", "of": "mmrev.RevCol"}
    for one, meta, track in (
        (config, {"iter": 30}, "tuned"),
        (config, {"iter": 30, "track": "frozen"}, "frozen"),
        (config, {"iter": 30, "track": ["of", "others"]}, "tuned"),
        (config, {}, None),
        ({**CONFIG, "model": {"backbone": frozen}}, {"iter": 30}, "frozen"),
        ({**CONFIG, "model": {"backbone": {}}}, {"iter": 30}, "scratch"),
        ({**CONFIG, "model": {}}, {"iter": 30}, None),
    ):
        assert training_info(one, None, meta, "x").track == track
    # Records of before it was noted keep their hash.
    assert "track" not in json.loads(measured().to_bytes())["training"]


def test_images_that_training_skipped():
    found = {"faults": {"a.jpg": "no image", "b.jpg": "a folder"}, "draws": 7}
    meta = {"iter": 30, SKIPPED_KEY: {**found, "total": 40}}
    skipped = training_info(CONFIG, None, meta, "x").skipped
    assert (skipped.images, skipped.total, skipped.draws) == (2, 40, 7)
    assert skipped.told == "2 of 40 training images"
    record = measured(training={"epochs": 3, "skipped": skipped})
    assert conditions(record) == "3 epochs; without 2 of 40 training images"
    # Records of before it was counted keep their hash.
    assert "skipped" not in json.loads(measured().to_bytes())["training"]


def test_how_training_went():
    meta = {"iter": 30, "deterministic": True, "skipped_steps": 2}
    found = training_info(CONFIG, None, meta, "x")
    assert found.deterministic and found.skipped_steps == 2
    told = {"deterministic", "skipped_steps"}
    assert told < found.model_dump(exclude_defaults=True).keys()
    found = training_info(CONFIG, None, {"iter": 30, "deterministic": False}, "x")
    assert found.deterministic is None
    # Records of before it was told keep their hash.
    assert not told & json.loads(measured().to_bytes())["training"].keys()


def test_a_batch_is_that_of_all_processes():
    config = {**CONFIG, "train_dataloader": {"batch_size": 16}}
    meta = {"iter": 30, PROCESSES_KEY: 4}
    assert training_info(config, None, meta, "x").batch == 64
    assert training_info(CONFIG, None, meta, "x").batch is None
    assert training_info(config, None, {"iter": 30}, "x").batch is None
    # Records of before it was told keep their hash.
    assert "batch" not in json.loads(measured().to_bytes())["training"]


def test_weights_that_say_nothing_claim_nothing():
    found = training_info(CONFIG, None, {}, "official.pth")
    assert found.data is found.epochs is found.iterations is None


def test_curves_are_thinned_and_of_this_checkpoint(tmp_path):
    def log(folder, lines):
        file = tmp_path / folder / "vis_data/scalars.json"
        file.parent.mkdir(parents=True)
        file.write_text("\n".join(lines))

    def line(step, loss):
        return json.dumps({"lr": 0.1, "loss": loss, "step": step, "time": 1.0})

    log("1", [*(line(step, 1.0) for step in range(1, 501)), '{"lr": 0.1, "lo'])
    validation = json.dumps({"coco/bbox_mAP": 0.5, "step": 7, "loss": 9.0})
    log("2", [validation, *(line(step, 2.0) for step in range(301, 1001))])
    log("3", [line(1000, float("nan")), json.dumps([1]), json.dumps({"step": "x"})])
    found = training_info(CONFIG, None, {"iter": 800}, tmp_path / "iter_800.pth")
    assert found.curves.keys() == {"loss", "lr"}
    loss = found.curves["loss"]
    assert len(loss.steps) == 200 and loss.steps[0] == 1 and loss.steps[-1] == 800
    # The second run went on from iteration 300 and did some of them again.
    for step, value in zip(loss.steps, loss.values, strict=True):
        assert value == (1.0 if step <= 300 else 2.0)


@pytest.mark.parametrize(
    "content",
    [
        *(b"\xff\xfe", b"", b"[]\n{}", b"[" * 100_000),
        b'{"lr": 0.1, "loss": 1, "step": Infinity}',
        b'{"lr": 1%s, "loss": 1, "step": 99}' % (b"0" * 400),
    ],
)
def test_a_damaged_log_gives_no_curve(tmp_path, content):
    file = tmp_path / "1/vis_data/scalars.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert training_info(CONFIG, None, {"iter": 9}, tmp_path / "a.pth").curves == {}


MODEL = {"type": "mmrev.IntermediateSupervision", "model": {"type": "mmdet.DINO"}}
RUN = {"model": MODEL, "train_cfg": {"max_epochs": 3}}
META = {"epoch": 3, "iter": 30, "seed": 7}


def save(path, starts=None, name="first"):
    """A checkpoint; of a run that tells of its training where `starts` are given."""
    told = {}
    if starts is not None:
        told[LINEAGE_KEY] = training_of(RUN, name, starts, META).model_dump()
    path.parent.mkdir(exist_ok=True)
    save_state_dict({"a": torch.ones(2)}, path, {**META, **told})
    return str(path)


def part(path):
    """Of a model, what starts from a file."""
    return {"init_cfg": {"type": "Pretrained", "checkpoint": path}}


def test_a_training_tells_its_model_data_and_length():
    config = {**CONFIG, "model": MODEL}
    found = training_of(config, "revcol", [], META)
    assert found.kind == "IntermediateSupervision, DINO"
    assert found.data == "CocoDataset annotations/train.json"
    assert (found.epochs, found.iterations, found.seed) == (3, 30, 7)
    loop = {"type": "IterBasedTrainLoop", "max_iters": 30}
    found = training_of({**config, "train_cfg": loop}, "revcol", [], META)
    assert (found.epochs, found.length) == (None, "30 iterations")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_hands_its_lineage_on(tmp_path, suffix):
    torch.save({"other": torch.ones(1)}, tmp_path / "released.pth")
    starts = starting_stages({"model": part(str(tmp_path / "released.pth"))})
    assert [one.kind for one in starts] == ["weights"] and starts[0].data is None
    path = save(tmp_path / f"first{suffix}", starts)
    (found,) = starting_stages({"model": {}, "load_from": path})
    assert found.starts == starts and found.seed == 7
    assert found.checkpoint.sha256 == file_sha256(path)
    told = {LINEAGE_KEY: training_of(RUN, "second", [found], META).model_dump()}
    info = training_info(CONFIG, None, told, "x")
    assert info.origins == ["released.pth", "first"] and info.pretraining == []


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_converted_file_tells_what_it_was_made_of(tmp_path, suffix):
    arch = {"channels": [4, 8, 16, 32], "depths": [1, 1, 1, 1], "num_columns": 1}
    model = MODELS.build({"type": "mmrev.RevCol", "arch": arch})
    torch.save({"model": model.state_dict()}, tmp_path / "released.pth")
    target = tmp_path / f"ours{suffix}"
    convert_told(tmp_path / "released.pth", target).check()
    found = stage_of(target)
    assert (found.kind, found.checkpoint.name) == ("conversion", target.name)
    (start,) = found.starts
    assert start.checkpoint.sha256 == file_sha256(tmp_path / "released.pth")
    load_backbone(model, target)
    # Of a run its lineage goes on.
    told = training_of(RUN, "first", [start], META).model_dump()
    run = {"state_dict": model.state_dict(), "meta": {LINEAGE_KEY: told}}
    torch.save(run, tmp_path / "run.pth")
    convert_told(tmp_path / "run.pth", tmp_path / "run-ours.pth").check()
    (first,) = stage_of(tmp_path / "run-ours.pth").starts
    assert first.name == "first" and first.starts == [start]


def test_several_starts_are_beside_each_other(tmp_path):
    small, large = (save(tmp_path / name) for name in ("small/a.pth", "large/a.pth"))
    torch.save({"a": torch.zeros(1)}, large)
    model = {"anchors": [part(small), part(large)], "neck": part(small)}
    stages = starting_stages({"model": model})
    assert [one.name for one in stages] == ["a.pth", "a.pth"]
    # A whole model that started from one of them tells of it already.
    whole = save(tmp_path / "whole.pth", [stage_of(small)])
    stages = starting_stages({"model": model, "load_from": whole})
    assert [one.name for one in stages] == ["a.pth", "first"]
    assert stages[0].checkpoint.sha256 == file_sha256(large)


def test_weights_tell_where_they_are_from(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = {"subnet0.level0.blocks.0.0.gamma": torch.ones(1)}
    monkeypatch.setattr(
        *(torch.hub, "download_url_to_file"),
        lambda url, path: torch.save({"model": weights}, path),
    )
    for name, address in (
        ("https://a.org/b/w.pth", "https://a.org/b/w.pth"),
        ("torchvision://resnet18", "torchvision://resnet18"),
        ("mmcls://resnet18", "mmcls://resnet18"),
        ("open-mmlab://detectron/resnet50_gn", "open-mmlab://detectron/resnet50_gn"),
    ):
        found = stage_of(name)
        assert found.kind == "weights" and found.data == address
        file = tmp_path / "checkpoints" / found.checkpoint.name
        assert found.checkpoint.sha256 == file_sha256(file)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("nowhere.pth", "nowhere.pth does not exist. Give the path or the URL"),
        ("s3://bucket/a.pth", "download it, and give the file"),
        ("torchvision://resnet19", "of the name .*; did you mean 'resnet18'"),
        ("text.pth", "cannot be read as a PyTorch or safetensors file"),
    ],
)
def test_starts_that_cannot_be_hashed(tmp_path, monkeypatch, start, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("<html>")
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        starting_stages({"model": {"head": part(start)}})


def test_a_chain_without_end_is_refused_before_it_is_trained(tmp_path):
    starts = [stage_of(save(tmp_path / "a.pth"))]
    for _ in range(99):
        told = training_of(RUN, "again", starts, META).model_dump()
        starts = [{**told, "checkpoint": {"name": "a.pth", "sha256": "0" * 64}}]
    path = tmp_path / "last.pth"
    told = {**training_of(RUN, "last", starts, META).model_dump()}
    save_state_dict({"a": torch.ones(1)}, path, {LINEAGE_KEY: told})
    with pytest.raises(ValueError, match=r"at most 100 stages, got more\. Or give the"):
        starting_stages({"load_from": str(path)})


def test_names_of_a_config_keep_no_checkpoint_from_being_written():
    config = {**RUN, "train_dataloader": {"dataset": {"type": "\x1b" + "x" * 2000}}}
    found = training_of(config, "\u202e" * 300, [], META)
    assert len(found.name) == 200 and len(found.data) == 1000


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"starts": [{"name": "a", "kind": "b"}]}, "got starts.0.checkpoint: Field"),
        ({"starts": "a"}, "got starts: Input should be a valid list"),
        ({"starts": ({"starts": ({},) * 100},)}, "at most 100 stages, got more"),
        ({"kind": None}, "got kind: Input should be a valid string"),
        ({"epochs": -3}, "got epochs: Input should be greater than or equal to 0"),
        ({"other": 1}, "got other: Extra inputs"),
        (["a"], "got one: Input should be a valid dictionary"),
    ],
)
def test_a_claim_that_is_no_lineage(tmp_path, claim, said):
    sound = training_of(RUN, "first", [], META).model_dump()
    claim = {**sound, **claim} if isinstance(claim, dict) else claim
    path = tmp_path / "a.pth"
    save_state_dict({"a": torch.ones(1)}, path, {LINEAGE_KEY: claim})
    with pytest.raises(ValueError, match="expected a lineage whose stages") as caught:
        stage_of(path)
    assert said in str(caught.value) and f"Checkpoint {path}" in str(caught.value)
