"""How often each class occurs in a data set."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from mmrev.datasets.checked import contents_of, place_of
from mmrev.datasets.images import fault_of
from mmrev.datasets.label_maps import CheckLabelMap
from mmrev.errors import UserError

__all__ = ["ClassCounts", "count_classes", "count_labels", "labels_of"]

# Entries that are looked at in any case, and seconds after which no further ones are;
# in between the search ends where every class was found.
_FEWEST = 100
_SECONDS = 10.0


@dataclass(frozen=True)
class ClassCounts:
    """What was found of each class.

    Attributes:
        counts: objects, pixels or images by class.
        unit: what was looked at one by one, and may not all have been.
        seen: how many of them were.
        total: how many there are; 0 if the whole file was looked at.
        ignored: share of the pixels that do not count.
        left_out: objects that the data set leaves out.
    """

    counts: dict[str, int]
    unit: str = ""
    seen: int = 0
    total: int = 0
    ignored: float = 0.0
    left_out: int = 0


def count_classes(dataset: BaseDataset) -> ClassCounts | None:
    """Count objects, pixels or images, until all classes are found or time is over.

    Args:
        dataset: of mmdet, mmseg or mmpretrain.

    Returns:
        The counts over entries in random, always equal, order; None if the data set
        has no labels or does not name its classes.

    Raises:
        UserError: an entry among those looked at is not sound.
    """
    classes = dataset.metainfo.get("classes")
    if contents := contents_of(dataset):
        named = {contents.categories[key]: n for key, n in contents.counts.items()}
        return ClassCounts(named, left_out=sum(contents.left_out.values()))
    if classes is None:
        return None
    if hasattr(dataset, "reduce_zero_label"):
        return _count_pixels(dataset, classes)
    counts = count_labels(dataset, len(classes))
    if counts is None:
        return None
    named = dict(zip(classes, counts[0].tolist(), strict=True))
    return ClassCounts(named, "images", counts[1], len(dataset))


def count_labels(dataset: BaseDataset, number: int) -> tuple[np.ndarray, int] | None:
    """Count the labels of objects or images, as `count_classes`.

    Args:
        dataset: whose entries have ``instances`` or ``gt_label``.
        number: of classes, K.

    Returns:
        Objects or images by label, (K,), and how many entries were looked at; None if
        the entries have no labels.

    Raises:
        UserError: names an entry with another label than 0..K-1.
    """
    counts, seen = np.zeros(number, int), 0
    for info in _some(dataset):
        labels = labels_of(info)
        if labels is None:
            return None
        for label in labels:
            if not 0 <= label < number:
                image = info.get("img_path", "an entry")
                raise UserError(
                    f"{place_of(dataset)}: {image}: expected a label of 0.."
                    f"{number - 1}, got {label}; mend the file, or set the number of "
                    "classes of the model's head."
                )
            counts[label] += 1
        seen += 1
        if seen >= _FEWEST and counts.all():
            break
    return counts, seen


def _count_pixels(dataset: BaseDataset, classes: tuple[str, ...]) -> ClassCounts | None:
    transforms = dataset.pipeline.transforms
    places = [i for i, one in enumerate(transforms) if isinstance(one, CheckLabelMap)]
    if not places:
        return None
    load, check = transforms[places[0] - 1 : places[0] + 1]
    counts, maps = np.zeros(256, int), 0
    for info in _some(dataset):
        try:
            results = check(load(info))
        except UserError:
            raise
        except Exception:
            # One that cannot be read is told, or skipped, when its image is drawn.
            if fault_of(info["seg_map_path"], dataset.backend_args):
                continue
            raise
        counts += np.bincount(results["gt_seg_map"].ravel(), minlength=256)
        maps += 1
        if maps >= _FEWEST and counts[: len(classes)].all():
            break
    if not maps:
        return None
    named = dict(zip(classes, counts.tolist(), strict=False))
    ignored = 1 - sum(named.values()) / max(counts.sum(), 1)
    return ClassCounts(named, "label maps", maps, len(dataset), ignored)


def _some(dataset: BaseDataset) -> Iterable[dict[str, Any]]:
    """Entries in random order, one at least, until the time is over."""
    end = time.monotonic() + _SECONDS
    for index in np.random.default_rng(0).permutation(len(dataset)).tolist():
        yield dataset.get_data_info(index)
        if time.monotonic() > end:
            return


def labels_of(info: Mapping[str, Any]) -> list[int] | None:
    """The labels of an entry's objects, or of the image; None if it has none."""
    if "instances" in info:
        found = [one for one in info["instances"] if not one.get("ignore_flag")]
        return [one["bbox_label"] for one in found if "bbox_label" in one]
    if not isinstance(info.get("gt_label", {}), Mapping):  # of one task
        return np.atleast_1d(info["gt_label"]).tolist()
    return None
