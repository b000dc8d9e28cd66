"""Class names are listed as mmdet numbers labels: in the annotation file's order."""

import json

import pytest
from mmdet.datasets import CocoDataset

from mmrev.class_order import order_classes

CATEGORIES = [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}, {"id": 4, "name": "c"}]


@pytest.fixture
def settings(tmp_path):
    box = {"image_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],
        "annotations": [
            {"id": number, "category_id": one["id"], **box}
            for number, one in enumerate(CATEGORIES)
        ],
        "categories": CATEGORIES,
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return {"data_root": str(tmp_path), "ann_file": "truth.json", "test_mode": True}


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["a", "b", "c"], ("b", "a", "c")),
        (("c", "b"), ("b", "c")),
        (("b", "a", "c"), ("b", "a", "c")),
    ],
)
def test_names_are_those_of_the_labels(settings, classes, expected):
    given = {**settings, "metainfo": {"classes": classes, "palette": [1]}}
    ordered = order_classes(given)
    assert ordered["metainfo"] == {"classes": expected, "palette": [1]}
    assert given["metainfo"]["classes"] == classes
    dataset = CocoDataset(**ordered, data_prefix={"img": ""}, pipeline=[])
    found = [one["bbox_label"] for one in dataset.get_data_info(0)["instances"]]
    names = {one["id"]: one["name"] for one in CATEGORIES}
    true = [names[one["id"]] for one in CATEGORIES if one["name"] in classes]
    assert [dataset.metainfo["classes"][label] for label in found] == true


@pytest.mark.parametrize(
    "change",
    [
        {"metainfo": None},
        {"metainfo": {"classes": ("unicorn", "a")}},
        {"metainfo": {"classes": ("a", "b")}, "ann_file": "nowhere.json"},
        {"metainfo": {"classes": ("a", "b")}, "ann_file": "list.json"},
        {"metainfo": {"classes": ("a", "b")}, "ann_file": "broken.json"},
    ],
)
def test_other_settings_stay(settings, change, tmp_path):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    assert order_classes({**settings, **change}) == {**settings, **change}
