"""tools/check_data.py end to end."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from damaged import damage, turn
from mmengine.config import Config
from PIL import Image

COCO = Path("data/coco")
ADE = Path("data/ade/ADEChallengeData2016")
TRAIN = COCO / "annotations/instances_train2017.json"


@pytest.fixture(scope="module")
def sound(project, tmp_path_factory) -> Path:
    """The project's configs and data, but no image twice."""
    root = tmp_path_factory.mktemp("sound")
    shutil.copytree(project / "data", root / "data")
    for path in project.glob("*.py"):
        shutil.copy(path, root)
    images = [p for p in root.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")]
    for number, path in enumerate(sorted(images)):
        image = Image.open(path).convert("RGB")
        image.paste((number, 9, 9), (0, 0, 8, 8))
        image.save(path, format="JPEG")
    return root


@pytest.fixture
def place(sound, tmp_path, monkeypatch) -> Path:
    """A copy to damage."""
    shutil.copytree(sound, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture
def check(run, place):
    """What the tool finds: its result, and the report by kind, level and split."""

    def call(config: str, *options: str):
        options = ("--workers", 0, "--out", "out", *options)
        result = run("check_data", config, *options)
        assert result.err == "", result.err
        report = json.loads(Path("out/report.json").read_text())
        found = {
            (one["kind"], one["level"], one["split"]): one
            for one in report["findings"]
            if one["kind"] not in ("absent", "empty")
        }
        assert Path("out/report.txt").read_text().rstrip() in result.out
        page = Path("out/report.html").read_text()
        for one in report["findings"]:
            assert one["split"] in result.out and one["split"] in page
        return result, found, report

    return call


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("config", "unit", "counts"),
    [
        ("det.py", "objects", {"person": 1, "bicycle": 1}),
        ("seg.py", "pixels", {}),
        ("cls.py", "images", {"label 0": 1, "label 3": 1}),
    ],
)
def test_sound_data(check, config, unit, counts):
    result, found, report = check(config)
    assert result.status == 0 and found == {}
    assert f"{config[:3]}: nothing would end or distort a run" in result.out
    assert [(s["name"], s["images"], s["unit"]) for s in report["splits"]] == [
        ("train", 4, unit),
        ("val, test", 4, unit),
    ]
    classes = report["splits"][0]["classes"]
    assert counts.items() <= classes.items()
    if unit == "pixels":
        folder = ADE / "annotations/training"
        maps = [np.asarray(Image.open(path)) for path in folder.iterdir()]
        assert sum(classes.values()) == sum((one > 0).sum() for one in maps)


@pytest.mark.parametrize("workers", [0, 2])
def test_all_images_that_cannot_be_read_are_named(check, workers):
    names = [COCO / f"train2017/{i:012d}.jpg" for i in (1, 2, 3)]
    for path, how in zip(names, ("truncated", "missing", "empty"), strict=True):
        damage(path, how)
    result, found, _ = check("det.py", "--workers", workers)
    assert result.status == 1 and found.keys() == {("unreadable", "fault", "train")}
    (one,) = found.values()
    assert [(e["image"], e["text"].partition(" (")[0]) for e in one["examples"]] == [
        (str(names[0]), "(a damaged one: image file is truncated"),
        (str(names[1]), "(no such file)"),
        (str(names[2]), "(an empty file)"),
    ]
    assert one["count"] == 3
    page = Path("out/report.html").read_text()
    assert page.count("nothing to show") == 3
    result, found, _ = check("det.py", "--cfg-options", "unreadable_images=0.75")
    assert result.status == 0 and found.keys() == {("unreadable", "remark", "train")}


def test_sizes(check):
    turn(COCO / "val2017/000000000002.jpg")
    result, found, _ = check("det.py")
    assert result.status == 1 and found.keys() == {("size", "fault", "val, test")}
    (one,) = found.values()
    assert one["examples"][0]["text"] == (
        "stated 64 x 96, got 96 x 64 (its EXIF orientation 6 turns it)"
    )
    result, found, _ = check("det.py", "--cfg-options", "other_sizes=said")
    assert result.status == 0 and found.keys() == {("size", "remark", "val, test")}


def test_images_that_exif_turns_in_place(check):
    path = COCO / "val2017/000000000003.jpg"
    image = Image.open(path)
    image.getexif()[0x0112] = 3
    image.save(path, exif=image.getexif())
    result, found, _ = check("det.py")
    assert result.status == 0 and found.keys() == {("turned", "remark", "val, test")}


def test_annotations(check):
    def change(content):
        entries = content["annotations"]
        entries[0]["bbox"] = [1, 2]
        entries[1]["bbox"] = [1, 2, 3]
        entries[2]["category_id"] = 999
        entries[3].update(bbox=[500, 500, 9, 9])
        entries[4].update(bbox=[60, 60, 90, 90])
        content["images"].reverse()

    change_json(TRAIN, change)
    result, found, report = check("det.py")
    assert result.status == 1
    annotations = [o for o in report["findings"] if o["kind"] == "annotations"]
    assert [(one["count"], one["level"]) for one in annotations] == [
        (1, "fault"),
        (2, "fault"),
    ]
    assert "field 'category_id': expected the id of one of" in annotations[0]["text"]
    assert "field 'bbox': expected 4 finite numbers" in annotations[1]["text"]
    assert "1 more such entries" in result.out
    boxes = [o for o in report["findings"] if o["kind"] == "boxes"]
    assert {(one["text"], one["level"]) for one in boxes} == {
        ("objects outside of their image", "remark"),
        ("objects reach beyond their image", "fault"),
    }
    assert ("order", "remark", "train") in found
    page = Path("out/report.html").read_text()
    # The box that leaves its image, in its place there.
    assert "left:75.00%;top:75.00%;width:112.50%;height:112.50%" in page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected a dict with 'images', 'annotations' and 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "lack person"),
        (None, "data not found: data/coco/annotations/instances_train2017.json"),
    ],
)
def test_a_split_that_cannot_be_used_leaves_the_others(check, text, said):
    TRAIN.unlink()
    if text is not None:
        TRAIN.write_text(text)
    result, found, report = check("det.py")
    assert result.status == 1 and found.keys() == {("data", "fault", "train")}
    assert said in found["data", "fault", "train"]["text"]
    assert [one["name"] for one in report["splits"]] == ["val, test"]


def test_an_empty_folder(check):
    for path in (ADE / "images/training").iterdir():
        path.unlink()
    _, found, _ = check("seg.py")
    assert "found no image in" in found["data", "fault", "train"]["text"]


def test_images_in_two_splits_and_twice_in_one(check):
    shutil.copy(COCO / "train2017/000000000001.jpg", COCO / "val2017/000000000001.jpg")
    shutil.copy(COCO / "train2017/000000000002.jpg", COCO / "train2017/twin.jpg")

    def change(content):
        twin = content["images"][1] | {"id": 77, "file_name": "twin.jpg"}
        content["images"].append(twin)

    change_json(TRAIN, change)
    result, found, _ = check("det.py")
    assert result.status == 1
    shared = found["shared", "fault", "train | val, test"]
    assert shared["examples"] == [
        {
            "image": str(COCO / "train2017/000000000001.jpg"),
            "text": f"= {COCO / 'val2017/000000000001.jpg'}",
        }
    ]
    twice = found["twice", "remark", "train"]
    assert twice["examples"][0]["image"].endswith("twin.jpg") and len(found) == 2


def test_label_maps(check):
    maps = sorted((ADE / "annotations/validation").iterdir())
    Image.new("L", (10, 10)).save(maps[0])
    labels = np.asarray(Image.open(maps[1])).copy()
    labels[:30] = 200
    Image.fromarray(labels).save(maps[1])
    damage(maps[2], "truncated")
    result, found, _ = check("seg.py")
    assert result.status == 1 and len(found) == 2
    masks = found["masks", "fault", "val, test"]
    said = [one["text"] for one in masks["examples"]]
    assert said[0].startswith(f"{maps[0]}: expected the size of its image")
    assert "expected labels of 0..149, or 255 to be ignored, got 199" in said[1]
    unreadable = found["unreadable", "fault", "val, test"]
    assert unreadable["examples"][0]["image"] == str(maps[2])
    assert "data:image/png" in Path("out/report.html").read_text()


def test_labels_of_images(check):
    path = Path("data/imagenet/meta/train.txt")
    path.write_text(path.read_text().replace(" 2\n", " 9\n"))
    result, found, _ = check("cls.py")
    assert result.status == 1 and found.keys() == {("labels", "fault", "train")}
    one = found["labels", "fault", "train"]
    assert one["text"] == "expected labels of 0..3"
    assert one["examples"][0]["text"] == "label 9"


def test_run_lengths_that_do_not_fit(check):
    config = Config.fromfile("det.py")
    for step in config.train_dataloader.dataset.pipeline:
        if step.type == "LoadAnnotations":
            step.with_mask = True
    config.dump("masks.py")

    def change(content):
        sizes = {one["id"]: (one["height"], one["width"]) for one in content["images"]}
        for one, counts in zip(content["annotations"], ("1", [7], "~"), strict=False):
            size = list(sizes[one["image_id"]])
            one["segmentation"] = {"size": size, "counts": counts}

    change_json(TRAIN, change)
    result, found, _ = check("masks.py")
    assert result.status == 1 and found.keys() == {("masks", "fault", "train")}
    said = [one["text"] for one in found["masks", "fault", "train"]["examples"]]
    assert "expected runs of 6144 pixels in all, got 1" in said[0]
    assert "expected runs of 6144 pixels in all, got 7" in said[1]
    assert "a character of another alphabet" in said[2]


def test_joined_data_and_classes_that_differ(check):
    config = Config.fromfile("det.py")
    plain = config.train_dataloader.dataset
    inside = {"type": "RepeatDataset", "times": 3, "dataset": plain}
    again = {**plain, "ann_file": config.val_dataloader.dataset.ann_file}
    again["data_prefix"] = config.val_dataloader.dataset.data_prefix
    joined = {"type": "ConcatDataset", "datasets": [inside, again]}
    config.train_dataloader.dataset = joined
    config.test_dataloader = deepcopy(config.val_dataloader)
    config.val_dataloader.dataset.metainfo = {"classes": ("person", "dog")}
    config.dump("joined.py")
    result, found, report = check("joined.py")
    assert result.status == 1
    assert [(one["name"], one["images"]) for one in report["splits"]] == [
        ("train", 8),
        ("val", 4),
        ("test", 4),
    ]
    assert found["shared", "fault", "train | val"]["count"] == 4
    assert found["shared", "fault", "train | test"]["count"] == 4
    assert found["shared", "remark", "val | test"]["count"] == 4
    classes = [key for key in found if key[0] == "classes"]
    assert classes == [("classes", "fault", "train | val")] and len(found) == 4


def test_classes_that_never_occur(run, place):
    for option, status in (("refused", 1), ("said", 0)):
        options = ("--cfg-options", f"absent_classes={option}")
        options += ("train_dataloader.dataset.data_root=data/coco/",)
        result = run("check_data", "det.py", "--workers", 0, "--out", "out", *options)
        assert result.status == status and result.out.count("74") == 2


def test_crops_that_lie_in_no_file(check):
    config = Config.fromfile("cls.py")
    dataset = {"type": "mmrev.DigitCrops", "split": "validation", "size": 32}
    config.test_dataloader.dataset = {**dataset, "pipeline": [{"type": "PackInputs"}]}
    config.train_dataloader = config.val_dataloader = None
    config.dump("crops.py")
    result, found, report = check("crops.py")
    assert result.status == 0 and found == {} and report["images"] == 0
    (split,) = report["splits"]
    assert split["images"] == 1000 and set(split["classes"]) == set("0123456789")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("det.py", "--workers", "-1"), "--workers: expected 0 or more, got -1"),
        (("dett.py",), "config not found: dett.py; did you mean 'det.py'?"),
        (("det.py", "--cfg-options", "other_sizes=no"), "other_sizes: expected one of"),
        (("det.py", "--out", "det.py/x"), "--out: cannot make det.py/x"),
        (
            ("det.py", "--cfg-options", "unreadable_images=some"),
            "unreadable_images: expected a share",
        ),
        (
            (
                *("det.py", "--cfg-options", "train_dataloader=None"),
                *("val_dataloader=None", "test_dataloader=None"),
            ),
            "no dataloader; nothing to look at",
        ),
    ],
)
def test_mistakes_are_one_line(run, place, argv, message):
    result = run("check_data", *argv)
    (line,) = result.err.splitlines()
    assert result.status == 1 and line.startswith("error: ") and message in line
