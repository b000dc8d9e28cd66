"""Batches of noise, as a loader would give them, for what needs no data set."""

from math import ceil, sqrt

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

__all__ = ["BOXES", "classification_batch", "detection_batch", "segmentation_batch"]

BOXES = 20
"""In an image, unless it is said otherwise."""
_IGNORED = 255


def detection_batch(
    size: tuple[int, int],
    count: int,
    classes: int = 80,
    with_masks: bool = False,
    boxes: int = BOXES,
) -> dict:
    """Images with boxes, for mmdet.

    Args:
        size: height and width of the images, pixels.
        count: images.
        classes: labels are below it.
        with_masks: whether the boxes are masks, too.
        boxes: in each image.
    """
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    inputs, objects = _scenes(size, count, classes, boxes)
    samples = []
    for index, (boxes, labels) in enumerate(objects):
        sample = DetDataSample(metainfo=_metainfo(index, size))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        if with_masks:
            masks = np.zeros((len(boxes), *size), np.uint8)
            for mask, box in zip(masks, boxes.long().tolist(), strict=True):
                left, top, right, bottom = box
                mask[top:bottom, left:right] = 1
            sample.gt_instances.masks = BitmapMasks(masks, *size)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def segmentation_batch(size: tuple[int, int], count: int, classes: int = 80) -> dict:
    """Images with a map of labels each, for mmseg; arguments as of `detection_batch`.

    20 boxes have a label, the rest is ignored.
    """
    from mmseg.structures import SegDataSample

    inputs, objects = _scenes(size, count, classes)
    samples = []
    for index, (boxes, labels) in enumerate(objects):
        sample = SegDataSample(metainfo=_metainfo(index, size))
        labelled = torch.full((1, *size), _IGNORED)
        for box, label in zip(boxes.long().tolist(), labels, strict=True):
            left, top, right, bottom = box
            labelled[:, top:bottom, left:right] = label
        sample.gt_sem_seg = PixelData(data=labelled)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def classification_batch(
    size: tuple[int, int], count: int, classes: int, mask_cell: int | None = None
) -> dict:
    """Images with a label each, for mmpretrain.

    Args:
        size: as of `detection_batch`.
        count: likewise.
        classes: likewise.
        mask_cell: None, or pixels of a cell of the masks that images have, too: their
            upper half.
    """
    from mmpretrain.structures import DataSample

    inputs, objects = _scenes(size, count, classes)
    samples = [
        DataSample(metainfo=_metainfo(index, size)).set_gt_label(labels[:1])
        for index, (_, labels) in enumerate(objects)
    ]
    if mask_cell:
        mask = torch.zeros([side // mask_cell for side in size], dtype=torch.long)
        mask[: len(mask) // 2] = 1
        samples = [sample.set_mask(mask) for sample in samples]
    # As one, which SelfSupDataPreprocessor tells from several views of an image.
    return {"inputs": torch.stack(inputs), "data_samples": samples}


def _scenes(
    size: tuple[int, int], count: int, classes: int, objects: int = BOXES
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Images, (3, H, W), and of each its boxes, (N, 4), and their labels, (N,)."""
    height, width = size
    generator = np.random.default_rng(0)
    # Side by side, so that none is hidden, whatever the size of the images.
    columns = ceil(sqrt(objects))
    rows = ceil(objects / columns)
    row, column = np.divmod(np.arange(objects), columns)
    corners = np.stack([column, row], 1)
    images, found = [], []
    for index in range(count):
        pixels = generator.integers(0, 256, (3, height, width), np.uint8)
        images.append(torch.from_numpy(pixels))
        boxes = np.concatenate([corners + 0.1, corners + 0.9], 1)
        boxes *= np.array([width / columns, height / rows] * 2)
        labels = (index + np.arange(objects)) % classes
        found.append((torch.from_numpy(boxes).float(), torch.from_numpy(labels)))
    return images, found


def _metainfo(index: int, size: tuple[int, int]) -> dict:
    return {
        "img_id": index,
        "img_shape": size,
        "ori_shape": size,
        "pad_shape": size,
        "scale_factor": (1.0, 1.0),
    }
