"""Annotations of others name files below the data's folders, or nothing is read."""

import json
from pathlib import Path

import data_layouts
import pytest
from mmdet.datasets import CocoDataset
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import BaseSegDataset

from mmrev.class_order import order_classes
from mmrev.datasets.checked import use_checked_data
from mmrev.errors import UserError, explain


@pytest.fixture(autouse=True)
def checked():
    use_checked_data()


@pytest.fixture
def root(tmp_path) -> Path:
    data_layouts.make_coco(tmp_path)
    return tmp_path / "data/coco"


def coco(root: Path, name: str | None = None, **settings) -> CocoDataset:
    """Of a file whose first image has another name."""
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name or content["images"][0]["file_name"]
    path.write_text(json.dumps(content))
    settings = dict(data_root=str(root), data_prefix=dict(img="val2017/")) | settings
    return CocoDataset(
        ann_file="annotations/instances_val2017.json", pipeline=[], **settings
    )


@pytest.mark.parametrize(
    "name",
    [
        "../../../secret.jpg",
        "/etc/passwd",
        "a/../../../../b.jpg",
        "/",
        "http://a/b.jpg",
    ],
)
def test_names_that_lead_out(root, name):
    with pytest.raises(UserError, match="expected names of files below") as e:
        coco(root, name)
    assert "instances_val2017.json" in str(e.value) and "got '/" in str(e.value)


def test_names_inside(root, monkeypatch):
    assert len(coco(root, "a/../b.jpg")) == 4
    assert len(coco(root, "../train2017/b.jpg")) == 4  # of the data root
    assert len(coco(root, f"{root}/val2017/b.jpg")) == 4
    monkeypatch.chdir(root.parent)
    assert len(coco(Path("coco"), f"{root}/val2017/b.jpg")) == 4


def test_links_are_the_users_own(root, tmp_path):
    """Images on a shared disk, and a data root that is a link itself."""
    elsewhere = tmp_path / "shared"
    (root / "val2017").rename(elsewhere)
    (root / "val2017").symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(root)
    assert len(coco(tmp_path / "link")) == 4
    # A folder of its own may lie anywhere.
    assert len(coco(root, data_prefix=dict(img=str(elsewhere)))) == 4


def test_without_a_folder_names_are_whole_paths(root):
    path = root / "annotations/instances_val2017.json"
    found = CocoDataset(ann_file=str(path), data_prefix=dict(img=""), pipeline=[])
    assert len(found) == 4


def test_lists_of_names(tmp_path):
    (tmp_path / "list.txt").write_text("../../secret\n")
    with pytest.raises(UserError, match=r"list\.txt: expected names of files"):
        BaseSegDataset(
            ann_file="list.txt",
            data_root=str(tmp_path),
            data_prefix=dict(img_path="images", seg_map_path="maps"),
            pipeline=[],
        )
    (tmp_path / "list.txt").write_text("/etc/passwd 0\n")
    with pytest.raises(UserError, match=r"list\.txt: expected names of files"):
        CustomDataset(ann_file="list.txt", data_root=str(tmp_path), pipeline=[])


def test_a_data_set_stays_as_it_was(root):
    assert "load_data_list" not in vars(coco(root))


def test_larger_than_a_file_may_be(root, monkeypatch):
    monkeypatch.setenv("MMREV_LIMITS", "1e-9")
    with pytest.raises(ValueError, match="at most 16 bytes") as error:
        coco(root)
    assert explain(error.value).startswith("annotations ")
    settings = dict(
        ann_file=f"{root}/annotations/instances_val2017.json",
        metainfo=dict(classes=("person",)),
    )
    with pytest.raises(ValueError, match="at most 16 bytes"):
        order_classes(settings)


def test_nested_too_deeply(root):
    path = root / "annotations/instances_train2017.json"
    path.write_text("[" * 200_000)
    settings = dict(ann_file=str(path), metainfo=dict(classes=("person",)))
    assert order_classes(settings) == settings
    with pytest.raises(UserError, match="nested too deeply"):
        CocoDataset(ann_file=str(path), pipeline=[])
