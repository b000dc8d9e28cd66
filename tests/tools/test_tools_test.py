"""tools/test.py end to end."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from mmrev.leaderboard.predictions import read_predictions

DET, SEG = "work_dirs/det/epoch_2.pth", "work_dirs/seg/iter_4.pth"


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_detection_leaves_a_record_predictions_and_pictures(run, project, tmp_path):
    result = run(
        *("test", "det.py", DET, "--work-dir", tmp_path),
        *("--out", tmp_path / "out.npz", "--show-dir", tmp_path / "shown"),
    )
    assert result.status == 0 and result.err == ""
    (path,) = (tmp_path / "records").glob("det-*.json")
    assert str(path) in result.out
    record = json.loads(path.read_text())
    assert record["schema_version"] == 2
    assert record["config"]["name"] == "det" and not record["config"]["tta"]
    assert record["checkpoint"]["sha256"] == sha256(project / DET)
    assert record["predictions"]["sha256"] == sha256(tmp_path / "out.npz")
    annotations = project / "data/coco/annotations/instances_val2017.json"
    assert record["dataset"] == {
        "name": "coco",
        "root": "data/coco/",
        "type": "CocoDataset",
        "split": "annotations/instances_val2017.json",
        "fingerprint": sha256(annotations),
        "images_expected": 4,
        "images_evaluated": 4,
    }
    assert record["protocols"] == ["COCO (pycocotools, 100 detections)"]
    assert record["metrics"]["coco/bbox_mAP_50"] >= 0
    assert record["metrics"]["coco/bbox_mAP_l"] == -1  # no large object in the data
    model = record["model"]
    assert (model["type"], model["backbone"]) == ("RetinaNet", "RevCol")
    assert model["params"] > 50_000
    # At least the stem: 4x4x3 -> 8 channels at every 4th pixel.
    height, width = model["flops_shape"]
    assert model["flops"] > height * width // 16 * 48 * 8
    assert record["seeds"] == {"train": 3, "test": 3}
    assert record["software"]["packages"].keys() >= {"torch", "mmdet", "mmrev"}
    assert record["hardware"]["cores"] >= 1 and record["hardware"]["cpu"]
    predictions = dict(read_predictions(tmp_path / "out.npz"))
    assert predictions.keys() == {f"val2017/{i:012d}.jpg" for i in range(1, 5)}
    assert len(predictions["val2017/000000000001.jpg"]["pred_instances"]["bboxes"])
    shown = {path.name for path in (tmp_path / "shown").iterdir()}
    assert shown == {f"{i:012d}.png" for i in range(1, 5)}


def test_segmentation_leaves_a_record_and_pictures(run, project, tmp_path):
    shown = tmp_path / "shown"
    result = run("test", "seg.py", SEG, "--work-dir", tmp_path, "--show-dir", shown)
    assert result.status == 0
    assert "mIoU" in result.out and "swimming pool" not in result.out
    (path,) = (tmp_path / "records").glob("seg-*.json")
    record = json.loads(path.read_text())
    assert record["dataset"]["split"] == "images/validation"
    assert record["metrics"].keys() >= {"mIoU", "mAcc", "aAcc"}
    assert record["protocols"] == ["IoUMetric"]
    first = "ADE_val_00000001"
    image = np.asarray(
        Image.open(
            project / f"data/ade/ADEChallengeData2016/images/validation/{first}.jpg"
        )
    )
    picture = np.asarray(Image.open(shown / f"{first}.png").convert("RGB"))
    assert picture.shape == image.shape and (picture != image).any()


@pytest.mark.parametrize(("config", "weights"), [("det.py", DET), ("seg.py", SEG)])
def test_tta(run, tmp_path, config, weights):
    result = run("test", config, weights, "--tta", "--work-dir", tmp_path)
    assert result.status == 0
    (path,) = (tmp_path / "records").glob("*.json")
    assert not (tmp_path / config).exists()  # the config there is the training's
    record = json.loads(path.read_text())
    assert record["config"]["tta"] and record["dataset"]["images_evaluated"] == 4
    assert record["model"]["type"] in ("RetinaNet", "EncoderDecoder")


def test_config_hash_follows_the_config_not_the_machine(run, tmp_path):
    def tested(*options):
        run("test", "seg.py", SEG, "--work-dir", tmp_path / "x", *options)
        newest = max(
            (tmp_path / "x/records").iterdir(), key=lambda path: path.stat().st_mtime_ns
        )
        return json.loads(newest.read_text())["config"]["sha256"]

    plain = tested()
    assert tested("--out", str(tmp_path / "out.npz")) == plain
    assert tested("--cfg-options", "model.test_cfg.other=1") != plain


def test_standard_coco_is_told_from_mmdets_default(run, tmp_path):
    options = ("--cfg-options", "test_evaluator.proposal_nums=(100,300,1000)")
    assert run("test", "det.py", DET, "--work-dir", tmp_path, *options).status == 0
    (path,) = (tmp_path / "records").glob("*.json")
    (protocol,) = json.loads(path.read_text())["protocols"]
    assert "not standard COCO" in protocol and "1000" in protocol
