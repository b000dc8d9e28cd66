"""tools/browse.py end to end."""

import json
import re

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

DET, SEG = "work_dirs/det/epoch_2.pth", "work_dirs/seg/iter_4.pth"


def facts(page: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))


def test_detection_says_what_the_test_says(run, tmp_path):
    out = tmp_path / "page.html"
    result = run("browse", "det.py", DET, "--out", out)
    assert result.status == 0 and result.err == ""
    assert f"report: {out}" in result.out
    page = out.read_text()
    assert page.count("<article") == 4 and "4 of 4 test images" in page
    assert facts(page)["objects"] == "6" and facts(page)["images without"] == "1"
    tested = run("test", "det.py", DET, "--work-dir", tmp_path)
    assert tested.status == 0
    (path,) = (tmp_path / "records").glob("det-*.json")
    ap = json.loads(path.read_text())["metrics"]["coco/bbox_mAP_50"]
    assert facts(page)["AP50 of these images"] == f"{ap:.3f}"


def test_segmentation_says_what_the_test_says(run, tmp_path):
    out = tmp_path / "page.html"
    assert run("browse", "seg.py", SEG, "--out", out).status == 0
    page = out.read_text()
    assert page.count("<article") == 4 and "taken for" in page
    assert run("test", "seg.py", SEG, "--work-dir", tmp_path).status == 0
    (path,) = (tmp_path / "records").glob("seg-*.json")
    metrics = json.loads(path.read_text())["metrics"]
    assert float(facts(page)["mIoU of these images"]) == pytest.approx(
        metrics["mIoU"], abs=0.006
    )
    right = float(facts(page)["pixels right"].rstrip(" %"))
    assert right == pytest.approx(metrics["aAcc"], abs=0.006)


@pytest.mark.parametrize("config", ["det.py", "seg.py"])
def test_ground_truth_of_some_training_images(run, tmp_path, config):
    out = tmp_path / "page.html"
    options = ("--split", "train", "--images", 2, "--out", out)
    assert run("browse", config, *options).status == 0
    page = out.read_text()
    assert page.count("<article") == 2 == page.count("<figure")
    assert "2 of 4 train images" in page
    # Evenly spread: the first and the last.
    first, last = ("ADE_tra_00000001", "4") if config == "seg.py" else ("0001", "4")
    assert f"{first}.jpg" in page and f"{last}.jpg" in page


def test_the_page_goes_to_the_work_dir(run, project):
    assert run("browse", "det.py", "--images", 1).status == 0
    assert "ground truth" in (project / "work_dirs/det/browse.html").read_text()


def test_annotations_are_as_large_as_the_image_wherever_they_are_loaded(
    run, project, tmp_path
):
    text = (project / "det.py").read_text()
    resize = '    dict(type="Resize", scale=(64, 64), keep_ratio=True),\n'
    loading = '    dict(type="LoadAnnotations", with_bbox=True),\n'
    assert resize + loading in text
    (tmp_path / "early.py").write_text(text.replace(resize + loading, loading + resize))
    places = []
    for config in ("det.py", tmp_path / "early.py"):
        assert run("browse", config, "--out", tmp_path / "page.html").status == 0
        page = (tmp_path / "page.html").read_text()
        places.append(re.findall(r'style="left:.*?"', page))
    assert places[0] == places[1] and len(places[0]) == 6


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("det.py", "--images", "0"), "--images: expected 1 or more, got 0"),
        (("dett.py",), "config not found: dett.py; did you mean 'det.py'?"),
        (("det.py", "nowhere.pth"), "nowhere.pth"),
        (("det.py", SEG), "does not fit the model of det.py"),
        (("det.py", DET, "--split", "train"), "leave out the checkpoint"),
        (
            ("det.py", DET, "--cfg-options", "test_cfg.stitches=[1]"),
            "test_cfg.stitches: Expected a model with a mmrev.StitchedBackbone",
        ),
        (("cls.py",), "data of detection (mmdet) or segmentation (mmseg)"),
        (
            ("det.py", "--cfg-options", "test_dataloader.dataset.data_root=nowhere"),
            "data not found: nowhere",
        ),
        (("det.py", "--cfg-options", "test_dataloader=None"), "no test_dataloader"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, argv, message):
    out = tmp_path / "page.html"
    result = run("browse", *argv, "--out", out)
    (line,) = result.err.splitlines()
    assert result.status == 1 and line.startswith("error: ") and message in line
    assert not out.exists()


def test_classes_are_named_by_the_file_whatever_order_the_config_has(run, tmp_path):
    config = Config.fromfile("det.py")
    out = tmp_path / "page.html"
    assert run("browse", "det.py", "--out", out).status == 0
    page = out.read_text()
    classes = CocoDataset.METAINFO["classes"][::-1]
    config.test_dataloader.dataset.metainfo = {"classes": classes}
    config.dump(tmp_path / "det.py")
    assert run("browse", tmp_path / "det.py", "--out", out).status == 0
    assert out.read_text() == page
