"""Label maps that must not reach a model."""

import pickle

import numpy as np
import pytest
from mmseg.datasets import BaseSegDataset
from mmseg.utils import register_all_modules
from PIL import Image

from mmrev.datasets.checked import use_checked_data
from mmrev.errors import UserError

CLASSES = ("ground", "road", "tree")


@pytest.fixture
def build(tmp_path):
    """A data set of mmseg with an image per label map."""
    register_all_modules(init_default_scope=True)
    use_checked_data()

    def call(*maps: np.ndarray, size=(6, 4), classes=CLASSES, **settings):
        for folder in ("images", "maps"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for number, labels in enumerate(maps):
            Image.new("RGB", size).save(tmp_path / f"images/{number}.jpg")
            Image.fromarray(labels).save(tmp_path / f"maps/{number}.png")
        return BaseSegDataset(
            data_root=str(tmp_path),
            data_prefix=dict(img_path="images", seg_map_path="maps"),
            metainfo=dict(classes=classes),
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="Resize", scale=(12, 8)),
                dict(type="LoadAnnotations"),
            ],
            **settings,
        )

    return call


def labels(*values: int, dtype=np.uint8) -> np.ndarray:
    """A map of 4 x 6 pixels that begins with some values and is 0 elsewhere."""
    found = np.zeros(24, dtype)
    found[: len(values)] = values
    return found.reshape(4, 6)


def test_sound_maps(build):
    dataset = build(labels(0, 1, 2, 255), labels(1))
    assert [one["gt_seg_map"].max() for one in dataset] == [255, 1]
    # A loader's workers may be given it.
    assert len(pickle.loads(pickle.dumps(dataset))) == 2
    dataset.full_init()
    checks = [type(one).__name__ for one in dataset.pipeline.transforms]
    assert checks.count("CheckLabelMap") == 1
    # Grey levels of a palette are numbers of classes as well.
    image = Image.fromarray(labels(2))
    image.putpalette(list(range(256)) * 3)
    image.save(dataset.get_data_info(0)["seg_map_path"])
    assert dataset[0]["gt_seg_map"].max() == 2


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (labels(0, 3, 3, 7), "expected labels of 0..2, or 255 to be ignored, got 3 in "
         "2 pixels; mend the map, name every class in"),
        (np.zeros((4, 6, 3), np.uint8), "expected a label map of one channel, the "
         "number of a class in each pixel, got a picture of 3 channels"),
        (np.zeros((4, 6, 4), np.uint8), "got a picture of 4 channels"),
        (np.zeros((6, 4), np.uint8), "/images/0.jpg, 6 x 4, got 4 x 6; mend the map."),
        (labels(1, 300, dtype=np.uint16), "expected labels of 0..255, got 300, of "
         "which mmseg would keep 8 bits"),
    ],
)  # fmt: skip
def test_a_fault_is_named(build, found, said):
    dataset = build(found)
    with pytest.raises(UserError) as caught:
        dataset[0]
    assert str(caught.value).split(": ")[0].endswith("/maps/0.png")
    assert said in str(caught.value)


def test_labels_without_the_zero(build):
    dataset = build(labels(0, 3, 255), reduce_zero_label=True)
    assert sorted(np.unique(dataset[0]["gt_seg_map"])) == [2, 255]
    with pytest.raises(UserError, match="got 3 in 1 pixels"):
        build(labels(4), reduce_zero_label=True)[0]
