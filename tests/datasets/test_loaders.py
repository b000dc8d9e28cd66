"""mmdet's, mmseg's and mmpretrain's own loaders read the embedded scenes."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from resolved import resolve

from mmrev.datasets.sources import CLASSES, load_digits

SCENES = dict(num_training=12, num_validation=6)
LENGTHS = {"train": 12, "val": 6}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "scenes"


def build(config, split, scope, **changes):
    """Build a data set as the config base describes it."""
    cfg = resolve(f"_base_/datasets/{config}")
    loader = cfg.get(f"scenes_{split}_dataloader") or cfg[f"{split}_dataloader"]
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build({**loader["dataset"], **changes})


@pytest.mark.parametrize("split", ["train", "val"])
def test_detection(root, split):
    dataset = build(
        "scenes_detection", split, "mmdet", data_root=str(root), scenes=SCENES
    )
    name = {"train": "training", "val": "validation"}[split]
    coco = json.loads((root / f"annotations/instances_{name}.json").read_text())
    assert len(dataset) == LENGTHS[split] == len(coco["images"])
    assert dataset.metainfo["classes"] == CLASSES
    count = 0
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample["inputs"].shape == (3, 96, 96)
        instances = sample["data_samples"].gt_instances
        boxes = instances.bboxes.tensor
        count += len(boxes)
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= 96).all()
        wanted = [a for a in coco["annotations"] if a["image_id"] == index + 1]
        assert instances.labels.tolist() == [a["category_id"] - 1 for a in wanted]
        corners = torch.tensor([a["bbox"] for a in wanted]).float()
        corners[:, 2:] += corners[:, :2]
        assert torch.equal(boxes, corners)
    assert count == len(coco["annotations"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_segmentation(root, split):
    dataset = build(
        "scenes_segmentation", split, "mmseg", data_root=str(root), scenes=SCENES
    )
    assert len(dataset) == LENGTHS[split]
    assert dataset.metainfo["classes"] == ("background", *CLASSES)
    seen = set()
    for sample in dataset:
        labels = sample["data_samples"].gt_sem_seg.data
        assert labels.shape == (1, 96, 96)
        seen |= set(labels.unique().tolist())
    assert 0 in seen and seen <= set(range(11)) and len(seen) > 6


def test_detection_and_segmentation_show_the_same_images(root):
    detection = build(
        "scenes_detection", "val", "mmdet", data_root=str(root), scenes=SCENES
    )
    segmentation = build(
        "scenes_segmentation", "val", "mmseg", data_root=str(root), scenes=SCENES
    )
    for one, other in zip(detection, segmentation, strict=True):
        assert torch.equal(one["inputs"], other["inputs"])


def test_crops_show_every_digit_of_the_split_each_round():
    dataset = build("scenes_crops", "train", "mmpretrain", num_rounds=2)
    assert len(dataset) == 2 * 4000
    labels = [dataset.get_data_info(i)["gt_label"] for i in (0, 3999, 4000, 7999)]
    assert labels == [0, 9, 0, 9]
    sample = dataset[123]
    assert sample["inputs"].shape == (3, 48, 48)
    assert sample["inputs"].dtype == torch.uint8
    assert sample["data_samples"].gt_label.tolist() == [0]
    assert len(build("scenes_crops", "val", "mmpretrain")) == 1000


def test_a_crop_depends_on_its_index_alone():
    one = build("scenes_crops", "train", "mmpretrain")
    other = build("scenes_crops", "train", "mmpretrain")
    other[5]
    assert torch.equal(one[4001]["inputs"], other[4001]["inputs"])
    assert not torch.equal(one[1]["inputs"], one[4001]["inputs"])
    seeded = build("scenes_crops", "train", "mmpretrain", scenes=dict(seed=1))
    assert not torch.equal(one[1]["inputs"], seeded[1]["inputs"])


def test_crops_are_blue_green_red_as_loaders_give_them():
    dataset = build("scenes_crops", "train", "mmpretrain")
    images = np.stack([dataset.get_data_info(i)["img"] for i in range(0, 4000, 40)])
    # Most training photographs are warm: more red than blue.
    assert images[..., 2].mean() > images[..., 0].mean() + 5


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of"):
        load_digits("test")
