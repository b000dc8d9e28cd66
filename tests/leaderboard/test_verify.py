"""One altered byte anywhere is found, and the file is named."""

import json
import re
import shutil
from pathlib import Path

import data_layouts
import numpy as np
import pytest
import tiny_configs
import torch
from make_records import measured
from mmdet.structures.mask import encode_mask_results
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from PIL import Image

from mmrev.evaluation.predictions import FORMAT, DumpPredictions, read_predictions
from mmrev.hashes import file_sha256
from mmrev.leaderboard.fingerprint import (
    annotations_of,
    config_sha256,
    dataset_sha256,
    portable,
)
from mmrev.leaderboard.recompute import build_dataset, recompute
from mmrev.leaderboard.record import MeasuredRecord
from mmrev.leaderboard.store import read_record, save_record
from mmrev.leaderboard.verify import verify

TASKS = {
    "detection": (tiny_configs.write_detection, "data/coco/"),
    "instance segmentation": (tiny_configs.write_detection, "data/coco/"),
    "semantic segmentation": (
        tiny_configs.write_segmentation,
        "data/ade/ADEChallengeData2016",
    ),
    "panoptic segmentation": (tiny_configs.write_panoptic, "data/coco/"),
    "classification": (tiny_configs.write_classification, "data/imagenet"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    data_layouts.make_coco(root)
    data_layouts.make_coco_panoptic(root)
    data_layouts.make_ade20k(root)
    data_layouts.make_imagenet(root)
    return root


@pytest.fixture(scope="module")
def made(project, tmp_path_factory):
    """A folder of each task, as a test leaves it, without the model."""
    folders = {}

    def of(task: str) -> Path:
        if task not in folders:
            folders[task] = tmp_path_factory.mktemp("made")
            make(task, *TASKS[task], folders[task])
        return folders[task]

    return of


@pytest.fixture(params=TASKS)
def tested(request, project, made, tmp_path, monkeypatch) -> Path:
    """The record of a task, with its files."""
    monkeypatch.chdir(project)
    shutil.copytree(made(request.param), tmp_path, dirs_exist_ok=True)
    (path,) = (tmp_path / "records").glob("*.json")
    return path


def make(task, write, root, folder, evaluator=None) -> Path:
    config = Config.fromfile(write(folder / "tiny.py"))
    if task == "instance segmentation":
        config.test_evaluator.metric = ["bbox", "segm"]
    config.test_evaluator.update(evaluator or {})
    resolved = portable(config.to_dict())
    settings = {"name": "tiny", "resolved": resolved}
    draft = measured(config=settings)
    init_default_scope(config.default_scope)
    dataset = build_dataset(draft, root)
    dump = {
        "type": "mmrev.DumpPredictions",
        "out_file_path": str(folder / "out.npz"),
        "data_root": root,
    }
    tester = Evaluator([config.test_evaluator, dump])
    tester.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        tester.process([sample_of(task, dataset.get_data_info(index), index)])
    metrics = tester.evaluate(len(dataset))
    (folder / "epoch_1.pth").write_bytes(b"weights" * 100)
    annotations, folders = annotations_of(dataset)
    split = str(annotations or folders[0]).removeprefix(root).strip("/")
    record = measured(
        task=task,
        config=settings,
        metrics={name: None if np.isnan(v) else v for name, v in metrics.items()},
        checkpoint={"sha256": file_sha256(folder / "epoch_1.pth")},
        dataset={
            "root": root,
            "split": split,
            "fingerprint": dataset_sha256(annotations, folders),
        },
        predictions={
            "name": "out.npz",
            "sha256": file_sha256(folder / "out.npz"),
            "format": FORMAT,
        },
    )
    return save_record(record, folder / "records")


def sample_of(task, info, index) -> dict:
    """Predictions that are right in part, with the truth."""
    random = np.random.default_rng(index)
    sample = {"img_path": info["img_path"]}
    if task == "classification":
        scores = torch.tensor(random.random(4), dtype=torch.float32)
        return (
            sample
            | {"pred_score": scores, "gt_label": torch.tensor([0])}
            | {"gt_label": torch.tensor([int(info["gt_label"])])}
        )
    if task == "semantic segmentation":
        from mmseg.registry import TRANSFORMS

        load = TRANSFORMS.build({"type": "LoadAnnotations", "reduce_zero_label": True})
        truth = torch.tensor(load(dict(info))["gt_seg_map"]).long()
        other = torch.tensor(random.integers(0, 150, truth.shape))
        guess = torch.where(torch.rand(truth.shape) < 0.5, truth % 150, other)
        return sample | {
            "pred_sem_seg": {"data": guess[None]},
            "gt_sem_seg": {"data": truth[None]},
        }
    height, width = info["height"], info["width"]
    if task == "panoptic segmentation":
        colours = np.asarray(Image.open(info["seg_map_path"])).astype(int)
        true = colours @ (1, 256, 256**2)
        ids = np.full(true.shape, 133)  # void
        for number, one in enumerate(info["segments_info"]):
            # As mmdet has it, with a crowd's segment among the predicted ones.
            ids[true == one["id"]] = one["category"] + 1000 * number
        ids[random.random(ids.shape) < 0.2] = 133
        ids[:9, :9] = 77 + 1000 * 70  # more than 16 bits hold
        return sample | {
            "img_id": info["img_id"],
            "ori_shape": (height, width),
            "pred_panoptic_seg": {"sem_seg": torch.tensor(ids)[None]},
        }
    boxes = [one["bbox"] for one in info["instances"]] * 2
    boxes = torch.tensor(boxes, dtype=torch.float32)
    boxes += torch.tensor(random.integers(-2, 3, boxes.shape))
    found = {
        "bboxes": boxes,
        "scores": torch.tensor(random.random(len(boxes)), dtype=torch.float32),
        "labels": torch.tensor([one["bbox_label"] for one in info["instances"]] * 2),
    }
    if task == "instance segmentation":
        masks = np.zeros((len(boxes), height, width), bool)
        for mask, (x, y, u, v) in zip(
            masks, boxes.int().clamp(0).tolist(), strict=True
        ):
            mask[y:v, x:u] = True
        found["masks"] = encode_mask_results(masks)
    return sample | {
        "img_id": info["img_id"],
        "ori_shape": (height, width),
        "pred_instances": found,
    }


def states(path: Path) -> dict[str, str]:
    return {check.what: check.state for check in verify(read_record(path), path)}


def failures(path: Path, **places) -> dict[str, str]:
    checks = verify(read_record(path), path, **places)
    return {one.what: one.detail for one in checks if one.state == "altered"}


def unchecked(path: Path) -> dict[str, str]:
    checks = verify(read_record(path), path)
    return {one.what: one.detail for one in checks if one.state == "not checked"}


def flip(path: Path, position: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def rewritten(path: Path, change) -> Path:
    """A forged record: altered, with an id that fits."""
    content = json.loads(path.read_text())
    del content["id"]
    change(content)
    path.unlink()
    return save_record(MeasuredRecord.model_validate(content), path.parent)


def test_an_honest_record_is_sound(tested):
    assert set(states(tested).values()) == {"sound"}, states(tested)
    assert set(states(tested)) == {
        *("record", "config", "checkpoint", "annotations", "predictions", "metrics")
    }


@pytest.mark.parametrize("tested", ["detection"], indirect=True)
def test_every_altered_byte_of_a_record_is_found(tested):
    honest = tested.read_bytes()
    positions = range(0, len(honest), max(1, len(honest) // 60))
    for position in positions:
        flip(tested, position)
        try:
            record = read_record(tested)
        except ValueError:
            pass
        else:
            check = verify(record, tested)[0]
            assert check.state == "altered" and str(tested) in check.detail
        tested.write_bytes(honest)


@pytest.mark.parametrize("tested", ["detection"], indirect=True)
def test_altered_files_are_found_and_named(tested):
    folder = tested.parent.parent
    for what, name in (("checkpoint", "epoch_1.pth"), ("predictions", "out.npz")):
        honest = (folder / name).read_bytes()
        flip(folder / name)
        assert failures(tested) == {what: f"{folder / name} hashes to another"}
        # A sound copy elsewhere is what the record means.
        (folder / "copy").mkdir(exist_ok=True)
        (folder / "copy" / name).write_bytes(honest)
        assert failures(tested, files=[folder / "copy"]) == {}
        (folder / name).write_bytes(honest)


@pytest.mark.parametrize(
    ("tested", "file"),
    [
        ("detection", "annotations/instances_val2017.json"),
        ("semantic segmentation", "annotations/validation/ADE_val_00000001.png"),
        ("panoptic segmentation", "annotations/panoptic_val2017.json"),
        ("panoptic segmentation", "annotations/panoptic_val2017/000000000001.png"),
    ],
    indirect=["tested"],
)
def test_altered_annotations_are_found_and_named(tested, file, tmp_path):
    record = read_record(tested)
    root = tmp_path / "copied"
    shutil.copytree(record.dataset.root, root)
    file = root / file
    text = file.read_bytes()
    if file.suffix == ".json":
        file.write_bytes(text.replace(b'"area": ', b'"area":1', 1))
    else:
        flip(file)
    assert file.read_bytes() != text
    record = rewritten(tested, lambda content: content["dataset"].update(root=""))
    (detail,) = failures(record, data_roots=[root]).values()
    assert "hashes to another" in detail and str(root) in detail
    # Where both lie, the sound ones are taken.
    assert failures(record, data_roots=[root, TASKS[read_record(record).task][1]]) == {}


def test_a_forged_record_is_found(tested):
    def better(content):
        name = next(name for name, v in content["metrics"].items() if (v or -1) > 0)
        content["metrics"][name] *= 0.5

    def other_config(content):
        content["config"]["resolved"]["model"]["type"] = "Other"

    (detail,) = failures(rewritten(tested, better)).values()
    assert "recomputed" in detail
    forged = rewritten(next(tested.parent.glob("*.json")), other_config)
    assert failures(forged)["config"].startswith(str(forged))


@pytest.mark.parametrize("tested", ["detection"], indirect=True)
def test_missing_files_are_not_called_sound(tested):
    folder = tested.parent.parent
    (folder / "epoch_1.pth").unlink()
    (folder / "out.npz").unlink()
    path = rewritten(tested, lambda content: content["dataset"].update(root="nowhere"))
    assert states(path) == {
        "record": "sound",
        "config": "sound",
        **dict.fromkeys(("checkpoint", "annotations", "predictions"), "not checked"),
        "metrics": "not checked",
    }


@pytest.mark.parametrize("name", ["CocoMetric", "mmrev.CocoMetric"])
def test_both_metrics_of_coco(project, tmp_path, monkeypatch, name):
    monkeypatch.chdir(project)
    write, root = TASKS["detection"]
    path = make("detection", write, root, tmp_path, {"type": name})
    assert failures(path) == {}
    assert read_record(path).metrics["coco/bbox_mAP"] > 0


def test_boundaries(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    task = "instance segmentation"
    evaluator = {
        "type": "mmrev.CocoMetric",
        "metric": ["segm", "boundary"],
        "iou_thrs": [0.1],  # so small are the images
    }
    write, root = TASKS[task]
    path = make(task, write, root, tmp_path, evaluator)
    assert failures(path) == {}
    metrics = read_record(path).metrics
    assert 0 < metrics["coco/boundary_mAP"] <= metrics["coco/segm_mAP"]


@pytest.mark.parametrize("tested", ["panoptic segmentation"], indirect=True)
def test_panoptic_figures_are_recomputed_without_panopticapi(tested):
    assert read_record(tested).metrics["coco_panoptic/PQ"] > 0

    def evaluator(**settings):
        def change(content):
            resolved = content["config"]["resolved"]
            resolved["test_evaluator"] |= settings
            content["config"]["sha256"] = config_sha256(resolved)

        return change

    path = rewritten(tested, evaluator(type="CocoPanopticMetric"))  # mmdet's
    assert failures(path) == {}
    for place in ("ann_file", "seg_prefix"):
        path = rewritten(path, evaluator(**{place: "other"}))
        assert f"{place} 'other' is not the data set's" in unchecked(path)["metrics"]
        path = rewritten(path, evaluator(**{place: ""}))


@pytest.mark.parametrize("tested", ["panoptic segmentation"], indirect=True)
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("panoptic0", lambda a: a[1:], "expected the size"),
        ("panoptic0", lambda a: a.astype(float), "expected numbers of kind u"),
        ("panoptic0", lambda a: a[None], "expected the shape"),
        ("panoptic1", lambda a: a // 1000 * 1000 + 134, "a label of 0..132 or 133"),
        ("panoptic1", lambda a: a.astype("u8") - 2**60, "133 for void, got -"),
        ("ids", lambda a: a[::-1], "expected id"),
    ],
)
def test_unsound_panoptic_maps_are_refused(tested, name, change, said):
    refuse(tested, {name: change}, said)


@pytest.mark.parametrize("tested", ["detection"], indirect=True)
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "images",
            lambda a: np.array(["no.jpg", *a[1:]]),
            "the data set, got 'no.jpg'",
        ),
        ("images", lambda a: np.array([a[0]] * 4), "occurs twice"),
        ("images", lambda a: np.array([{}], object), "allow_pickle=False"),
        ("labels", lambda a: a + 500, "expected classes of 0..79, got 5"),
        ("labels", lambda a: a - 500, "expected classes of 0..79, got -"),
        ("labels", lambda a: a.astype(float), "expected numbers of kind i"),
        ("scores", lambda a: a * np.nan, "scores that are not finite"),
        ("scores", lambda a: a[1:], "expected the shape"),
        ("counts", lambda a: -a, "expected the shape"),
        ("counts", lambda a: a + np.array([-100, 100, 0, 0]), "negative"),
        ("ids", lambda a: a[::-1], "expected id"),
        ("sizes", lambda a: a + 1, "expected the size"),
        ("format", lambda a: np.array("other"), "expected the format"),
    ],
)
def test_unsound_detections_are_refused(tested, name, change, said):
    refuse(tested, {name: change}, said)


@pytest.mark.parametrize(
    ("tested", "name", "shape", "said"),
    [
        ("semantic segmentation", "labels0", (3, 3), "expected a label map of"),
        ("classification", "scores", (4, 1), "expected scores of"),
    ],
    indirect=["tested"],
)
def test_predictions_of_another_shape_are_refused(tested, name, shape, said):
    refuse(tested, {name: lambda a: np.zeros(shape, a.dtype)}, said)


def refuse(path: Path, changes: dict, said: str) -> None:
    """Forge the stored predictions; the error must name the file and say why."""
    file = path.parents[1] / "out.npz"
    with np.load(file) as stored:
        arrays = dict(stored)
    changed = {name: change(arrays[name]) for name, change in changes.items()}
    np.savez(file, **{**arrays, **changed})
    record = read_record(path)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        recompute(record, file, [build_dataset(record, record.dataset.root)])
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04]", b"text"])
def test_foreign_prediction_files_are_refused(tmp_path, content):
    file = tmp_path / "out.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"out\.npz"):
        list(read_predictions(file))


@pytest.mark.parametrize("tested", ["detection"], indirect=True)
def test_a_config_cannot_make_verification_write_or_run(tested, tmp_path):

    def evaluator(settings):
        def change(content):
            resolved = content["config"]["resolved"]
            resolved["test_evaluator"] |= settings
            content["config"]["sha256"] = config_sha256(resolved)

        return change

    out = tmp_path / "written"
    path = rewritten(tested, evaluator({"outfile_prefix": str(out), "format_only": 1}))
    assert failures(path) == {} and not list(tmp_path.glob("written*"))
    for kind in ("os.system", "subprocess.Popen"):
        path = rewritten(path, evaluator({"type": kind}))
        assert "expected a class of the OpenMMLab" in failures(path)["metrics"]
    path = rewritten(path, evaluator({"type": "DumpResults"}))
    assert "DumpResults cannot be recomputed" in unchecked(path)["metrics"]
    path = rewritten(path, evaluator({"type": "CocoMetric", "metric": "beauty"}))
    assert "beauty" in failures(path)["metrics"]
    path = rewritten(path, evaluator({"type": "CocoMetric", "ann_file": "other.json"}))
    assert "is not the data set's" in unchecked(path)["metrics"]


def test_boxes_of_a_panoptic_model_are_stored_too(tmp_path):
    dump = DumpPredictions(str(tmp_path / "o.npz"))
    instances = {
        "bboxes": torch.tensor([[0.0, 1, 2, 3]]),
        "scores": torch.tensor([0.5]),
        "labels": torch.tensor([7]),
    }
    ids = torch.tensor([[[7, 3007], [70_007, 80]]])
    nothing = {name: rows[:0] for name, rows in instances.items()}
    for name, found in (("a", instances), ("b", nothing)):
        sample = {
            "img_path": name,
            "img_id": name,
            "ori_shape": (2, 2),
            "pred_instances": found,
            "pred_panoptic_seg": {"sem_seg": ids},
        }
        dump.process(None, [sample])
    dump.evaluate(2)
    stored = dict(read_predictions(tmp_path / "o.npz"))
    assert stored.keys() == {"a", "b"}
    for name, sample in stored.items():
        assert (sample["img_id"], sample["ori_shape"]) == (name, (2, 2))
        assert sample["pred_panoptic_seg"]["sem_seg"].equal(ids)
    assert stored["a"]["pred_instances"]["labels"].tolist() == [7]
    assert len(stored["b"]["pred_instances"]["labels"]) == 0


def test_repeated_images_are_stored_once(tmp_path):
    dump = DumpPredictions(str(tmp_path / "o.npz"), "data")
    sample = {"img_path": "data/a.jpg", "pred_score": torch.tensor([0.25, 0.75])}
    dump.process(None, [sample, sample])
    dump.evaluate(1)
    ((name, found),) = read_predictions(tmp_path / "o.npz")
    assert name == "a.jpg" and found["pred_score"].tolist() == [0.25, 0.75]
    with pytest.raises(ValueError, match=r"got \['pred_depth_map'\]"):
        dump.process(None, [{"img_path": "a", "pred_depth_map": 1}])


@pytest.mark.parametrize("tested", ["detection"], indirect=True)
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ann_file", "../secret.json", "expected names below the data root"),
        ("ann_file", "/etc/passwd", "expected names below the data root"),
        ("ann_file", "http://127.0.0.1/a.json", "expected names below the data root"),
        ("data_prefix", {"img": "~/images"}, "expected names below the data root"),
        ("metainfo", {"classes": "s3://b/a"}, "expected names below the data root"),
        ("proposal_file", "a.pkl", "a data set with 'proposal_file' is not built"),
        ("type", "guard_evil_module", "a data set of guard_evil_module is not built"),
        ("type", "os.system", "expected a class of the OpenMMLab packages"),
        ("type", "mmpretrain.CIFAR10", "a data set of CIFAR10 is not built for others"),
        ("type", "mmdet.OpenImagesDataset", "a data set of OpenImagesDataset is not"),
        ("type", "mmrev.ReadableDataset", "a data set of ReadableDataset is not built"),
    ],
)
def test_a_data_set_that_is_not_built_for_others(
    tested, key, value, said, monkeypatch, tmp_path
):
    (tmp_path / "guard_evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    def forge(content):
        content["config"]["resolved"]["test_dataloader"]["dataset"][key] = value

    assert said in unchecked(rewritten(tested, forge))["annotations"]


@pytest.mark.parametrize("tested", ["classification"], indirect=True)
def test_a_data_set_that_would_fill_the_memory(tested):
    def forge(content):
        content["config"]["resolved"]["test_dataloader"]["dataset"] = {
            **dict(type="mmrev.DigitCrops", split="validation", size=32),
            "num_rounds": 10**12,
        }

    found = unchecked(rewritten(tested, forge))["annotations"]
    assert "num_rounds: expected at most 1000" in found


@pytest.mark.parametrize("tested", ["detection"], indirect=True)
def test_a_record_is_not_asked_where_to_look(tested):
    def outside(content):
        content["dataset"].update(split="../../etc/passwd")

    def elsewhere(content):
        content["dataset"].update(split="val", root="../..")

    path = rewritten(tested, outside)
    assert "expected files below the data root" in unchecked(path)["annotations"]
    path = rewritten(path, elsewhere)
    assert "name the data's folder: --data-root" in unchecked(path)["annotations"]


@pytest.mark.parametrize("tested", ["detection"], indirect=True)
def test_links_out_of_a_package_are_not_followed(tested, tmp_path_factory):
    folder, other = tested.parent.parent, tmp_path_factory.mktemp("other")
    (folder / "epoch_1.pth").rename(other / "epoch_1.pth")
    (folder / "epoch_1.pth").symlink_to(other / "epoch_1.pth")
    assert "is a link to" in unchecked(tested)["checkpoint"]
    checks = verify(read_record(tested), tested, files=[other])
    assert {check.state for check in checks} == {"sound"}


def test_embedded_scenes_are_not_composed_to_verify(tmp_path):
    """Which would replace those that are there by those of a record."""
    settings = dict(
        type="mmrev.ScenesDetDataset",
        ann_file="a.json",
        data_prefix=dict(img=""),
        scenes={},
    )
    loader = dict(dataset=settings)
    resolved = dict(default_scope="mmdet", test_dataloader=loader)
    draft = measured(config={"name": "tiny", "resolved": resolved})
    (tmp_path / "a.json").write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name="a.png", width=2, height=2)],
                annotations=[],
                categories=[dict(id=n, name=str(n)) for n in range(10)],
            )
        )
    )
    before = sorted(tmp_path.iterdir())
    dataset = build_dataset(draft, tmp_path)
    assert dataset.metainfo["classes"] == tuple("0123456789")
    assert sorted(tmp_path.iterdir()) == before
