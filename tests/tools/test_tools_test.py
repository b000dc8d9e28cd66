"""tools/test.py end to end."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmrev.checkpoints import rewrite_run
from mmrev.evaluation.predictions import read_predictions
from mmrev.runs.config import load_config

DET, SEG = "work_dirs/det/epoch_2.pth", "work_dirs/seg/iter_4.pth"


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_in_another_file_leave_the_same_record(run, project, tmp_path):
    records = []
    rewrite_run(project / DET, tmp_path / "epoch_2.safetensors")
    for number, path in enumerate((DET, tmp_path / "epoch_2.safetensors")):
        out = tmp_path / str(number)
        assert run("test", "det.py", path, "--work-dir", out).status == 0
        (record,) = (out / "records").glob("det-*.json")
        records.append(json.loads(record.read_text()))
    there, here = records
    assert here["checkpoint"]["name"] == "epoch_2.safetensors"
    assert here["checkpoint"]["sha256"] == sha256(tmp_path / "epoch_2.safetensors")
    for key in ("metrics", "seeds", "model", "config"):
        assert here[key] == there[key]
    assert here["training"]["iterations"] == there["training"]["iterations"] == 4


def test_a_damaged_checkpoint_is_not_tested(run, project, tmp_path):
    content = bytearray((project / DET).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "epoch_2.pth").write_bytes(content)
    shutil.copy(project / f"{DET}.sha256", tmp_path)
    result = run("test", "det.py", tmp_path / "epoch_2.pth", "--work-dir", tmp_path)
    assert result.status == 1
    assert "epoch_2.pth is damaged: its SHA-256 is not the one in" in result.err


def test_detection_leaves_a_record_predictions_and_pictures(run, project, tmp_path):
    result = run(
        *("test", "det.py", DET, "--work-dir", tmp_path),
        *("--out", tmp_path / "out.npz", "--show-dir", tmp_path / "shown"),
    )
    assert result.status == 0 and result.err == ""
    (path,) = (tmp_path / "records").glob("det-*.json")
    assert str(path) in result.out
    record = json.loads(path.read_text())
    assert record["schema_version"] == 7
    assert record["config"]["name"] == "det" and not record["config"]["tta"]
    assert record["checkpoint"]["sha256"] == sha256(project / DET)
    assert record["predictions"]["sha256"] == sha256(tmp_path / "out.npz")
    annotations = project / "data/coco/annotations/instances_val2017.json"
    assert record["dataset"] == {
        "name": "COCO",
        "root": "data/coco/",
        "type": "CocoDataset",
        "split": "annotations/instances_val2017.json",
        "fingerprint": sha256(annotations),
        "images_expected": 4,
        "images_evaluated": 4,
        "images_unreadable": 0,
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
    assert record["kind"] == "measured" and record["task"] == "detection"
    training = record["training"]
    assert (training["epochs"], training["iterations"]) == (2, 4)
    assert training["data"] == "CocoDataset annotations/instances_train2017.json"
    assert training["curves"]["loss"]["steps"] == [1, 2, 3, 4]
    # At least what the stem gives.
    assert record["speed"]["peak_memory_mb"] > height * width // 16 * 8 * 4 / 1e6
    assert record["speed"]["input_shape"] == model["flops_shape"]
    low, high = record["speed"]["latency_quartiles_ms"]
    assert 0 < low <= record["speed"]["latency_ms"] <= high
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


EQUAL_SIZES = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64)),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]


@pytest.mark.parametrize(
    ("config", "weights", "resized"),
    [
        ("det.py", DET, "pipeline.1.keep_ratio=False"),
        ("seg.py", SEG, f"pipeline={EQUAL_SIZES}"),
    ],
)
def test_batches_of_one_size_leave_the_figures_of_single_images(
    run, tmp_path, config, weights, resized
):
    records, predictions = [], []
    for batch in (1, 3):
        out = tmp_path / str(batch)
        result = run(
            *("test", config, weights, "--work-dir", out, "--out", out / "out.npz"),
            *("--show-dir", out / "shown", "--cfg-options"),
            f"test_dataloader.dataset.{resized}",
            f"test_dataloader.batch_size={batch}",
            "test_dataloader.batch_sampler={'type': 'mmrev.SameSizeBatchSampler'}",
        )
        assert result.status == 0 and "different" not in result.out + result.err
        (path,) = (out / "records").glob("*.json")
        records.append(json.loads(path.read_text()))
        predictions.append(dict(read_predictions(out / "out.npz")))
        assert len(list((out / "shown").iterdir())) == 4
    single, together = records
    assert together["metrics"] == pytest.approx(single["metrics"], abs=1e-3)
    assert together["dataset"] == single["dataset"]
    assert predictions[1].keys() == predictions[0].keys()


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


def test_check_compares_with_what_the_config_expects(run, project, tmp_path):
    def checked(expected, name="coco/bbox_mAP_l"):
        one = {"metric": name, "value": expected, "tolerance": 0.25}
        config = tmp_path / "expecting.py"
        text = (project / "det.py").read_text()
        config.write_text(f"{text}\nexpected_results = [{one}]\n")
        return run("test", config, DET, "--work-dir", tmp_path, "--check")

    result = checked(-1.25)  # no large object in the data: -1
    assert result.status == 0 and "expected -1.25 +- 0.25: as expected" in result.out
    result = checked(0)
    assert result.status == 1 and "1 of 1 results are outside" in result.err
    assert "coco/bbox_mAP_l: -1, expected 0 +- 0.25: OUTSIDE" in result.out
    assert "did you mean 'coco/bbox_mAP'" in checked(0, "coco/box_mAP").err
    assert "expected_results: expected dict(metric=" in checked("a").err
    result = run("test", "det.py", DET, "--work-dir", tmp_path, "--check")
    assert result.status == 1 and "has no expected_results; add" in result.err


def test_a_real_test_verifies(run, project, tmp_path):
    for config, weights in (("det.py", DET), ("seg.py", SEG)):
        folder = tmp_path / config
        out = ("--out", folder / "out.npz")
        assert run("test", config, weights, "--work-dir", folder, *out).status == 0
        files = ("--files", (project / weights).parent)
        result = run("leaderboard", "verify", folder, *files)
        assert result.status == 0, result.out
        assert "not checked" not in result.out and result.out.count("sound") == 6


@pytest.mark.parametrize(
    ("config", "weights", "broken", "evaluator"),
    [
        ("det.py", DET, "coco/val2017/000000000002.jpg", "CocoMetric"),
        (
            *("seg.py", SEG),
            "ade/ADEChallengeData2016/annotations/validation/ADE_val_00000004.png",
            "IoUMetric",
        ),
    ],
)
def test_an_unreadable_image_is_left_out_and_counted(
    run, project, tmp_path, config, weights, broken, evaluator
):
    shutil.copytree(project / "data", tmp_path / "data")
    (tmp_path / "data" / broken).write_bytes(b"not an image")
    first = sorted((tmp_path / "data" / broken).parent.iterdir())[0]
    if first.suffix == ".jpg":  # annotations know nothing of what EXIF asks for
        image = Image.open(first)
        image.getexif()[0x0112] = 6
        image.save(first, exif=image.getexif())
    root = Path(load_config(config).test_dataloader.dataset.data_root)
    options = [
        f"test_dataloader.dataset.data_root={tmp_path / root}/",
        f"test_evaluator.type=mmrev.{evaluator}",
        "other_sizes=said",
    ]
    result = run(
        *("test", config, weights, "--work-dir", tmp_path, "--out", tmp_path / "p.npz"),
        *("--cfg-options", *options),
    )
    assert result.status == 0, result.err
    assert f"left out, as it cannot be read: {tmp_path / 'data' / broken}" in result.out
    assert "only 3 of 4 images were tested" in result.out
    (path,) = (tmp_path / "records").glob("*.json")
    record = json.loads(path.read_text())
    dataset, remarks = record["dataset"], record["remarks"]
    assert remarks[-1].startswith(f"{evaluator}: ")
    turned = [one for one in remarks if f"{first} is 64x96, turned, not 96x64" in one]
    assert len(turned) == len(remarks) - 1 == int(evaluator == "CocoMetric")
    counts = [dataset[f"images_{n}"] for n in ("expected", "evaluated", "unreadable")]
    assert counts == [4, 3, 1]
    assert len(dict(read_predictions(tmp_path / "p.npz"))) == 3
    places = ("--files", (project / weights).parent, "--data-root", tmp_path / root)
    result = run("leaderboard", "verify", tmp_path, *places)
    assert result.status == 0 and result.out.count("sound") == 6, result.out


def test_crops_that_lie_in_no_file(run, project, tmp_path):
    """The suite's own digit crops: a test, its stored predictions, its verification."""
    config = Config.fromfile("cls.py")
    config.model.head.num_classes = config.data_preprocessor.num_classes = 10
    dataset = {"type": "mmrev.DigitCrops", "split": "validation", "size": 32}
    pipeline = [{"type": "PackInputs"}]
    config.test_dataloader.dataset = {**dataset, "pipeline": pipeline}
    config.test_dataloader.batch_size = 100
    config.dump(tmp_path / "crops.py")
    init_default_scope("mmpretrain")
    weights = MODELS.build(config.model).state_dict()
    torch.save({"state_dict": weights}, tmp_path / "w.pth")
    out = ("--work-dir", tmp_path / "work", "--out", tmp_path / "work/p.npz")
    result = run("test", tmp_path / "crops.py", tmp_path / "w.pth", *out)
    assert result.status == 0, result.err
    (path,) = (tmp_path / "work/records").glob("*.json")
    data = json.loads(path.read_text())["dataset"]
    assert (data["name"], data["images_evaluated"]) == ("DigitCrops", 1000)
    names = [name for name, _ in read_predictions(tmp_path / "work/p.npz")]
    assert names == [str(number) for number in range(1000)]
    result = run("leaderboard", "verify", tmp_path / "work", "--files", tmp_path)
    assert result.status == 0 and result.out.count("sound") == 6, result.out
