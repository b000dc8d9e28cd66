"""Images of other sizes than annotated, before the first iteration."""

import json

import pytest
from mmdet.datasets import CocoDataset
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from PIL import Image

from mmrev.datasets.checked import use_checked_data
from mmrev.errors import UserError
from mmrev.runs.sizes import check_image_sizes


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Of three images one is a resized copy, one is not there."""
    monkeypatch.chdir(tmp_path)
    use_checked_data()
    init_default_scope("mmdet")
    images = [dict(id=i, file_name=f"{i}.jpg", width=20, height=10) for i in range(3)]
    content = dict(images=images, annotations=[], categories=[dict(id=1, name="cat")])
    (tmp_path / "a.json").write_text(json.dumps(content))
    Image.new("RGB", (20, 10)).save("0.jpg")
    Image.new("RGB", (10, 5)).save("1.jpg")
    return CocoDataset(
        "a.json",
        data_prefix=dict(img=""),
        metainfo=dict(classes=("cat",)),
        pipeline=[dict(type="LoadImageFromFile")],
    )


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_they_are_counted_and_named(dataset, split):
    with pytest.raises(UserError) as caught:
        check_image_sizes([dataset], split, "refused")
    assert str(caught.value) == (
        f"a.json ({split}): 1 of 2 images that were looked at, of 3, are not of the "
        "size that their annotations state: 1.jpg: stated 20 x 10, got 10 x 5; mend "
        "the images or their annotations; if only height and width are stated wrongly, "
        "other_sizes='said' in the config lets them pass."
    )


def test_where_they_pass_it_is_said(dataset, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), "warning", said.append)
    check_image_sizes([dataset], "train", "said")
    assert len(said) == 1 and "1.jpg: stated 20 x 10, got 10 x 5" in said[0]
    assert dataset[1]["img"].shape == (5, 10, 3)


def test_without_loading_nothing_is_looked_at(dataset):
    dataset.pipeline.transforms.clear()
    check_image_sizes([dataset], "train", "refused")
