"""What a label map must hold, checked when it is read; which classes occur in them."""

import time
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.fileio import get
from PIL import Image, UnidentifiedImageError

from mmrev.errors import UserError

__all__ = ["CheckLabelMap", "LabelCounts", "count_labels"]

# Maps that are looked at in any case, and seconds after which no further ones are; in
# between the search ends where every class was found.
_FEWEST_MAPS = 100
_SECONDS = 10.0
# Modes of pictures with more than 8 bits, which mmseg cuts off.
_DEEP = ("I;16", "I;16B", "I", "F")


class CheckLabelMap:
    """A transform that refuses a label map which the model would fail on.

    Its place is after the loading of the map.

    Args:
        num_classes: K; None if the data set does not say.
        ignored: labels that are no class and mean that a pixel does not count.
        backend_args: as of the data set.
    """

    def __init__(
        self,
        num_classes: int | None,
        ignored: set[int],
        backend_args: dict | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.ignored = ignored
        self.backend_args = backend_args

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Check a map.

        Args:
            results: with `gt_seg_map` (H, W) and `seg_map_path`; with `ori_shape` of
                the image if it is loaded.

        Returns:
            The results as they are.

        Raises:
            UserError: names the map, what was expected and received.
        """
        path, labels = results["seg_map_path"], results["gt_seg_map"]
        if labels.ndim < 2:  # of one pixel's width, which mmseg squeezes
            return results
        if labels.ndim > 2:
            raise UserError(
                f"{path}: expected a label map of one channel, the number of a class "
                f"in each pixel, got a picture of {labels.shape[-1]} channels; convert "
                "its colours to numbers of classes."
            )
        height, width = results.get("ori_shape", labels.shape)[:2]
        if labels.shape != (height, width):
            raise UserError(
                f"{path}: expected the size of its image {results['img_path']}, "
                f"{width} x {height}, got {labels.shape[1]} x {labels.shape[0]}; mend "
                "the map."
            )
        self._check_depth(path)
        if self.num_classes is not None:
            self._check_values(path, labels)
        return results

    def _check_depth(self, path: str) -> None:
        content = BytesIO(get(path, backend_args=self.backend_args))
        # What only another decoder reads is that decoder's business.
        with suppress(UnidentifiedImageError), Image.open(content) as image:
            if image.mode in _DEEP and (most := np.asarray(image).max()) > 255:
                raise UserError(
                    f"{path}: expected labels of 0..255, got {most}, of which mmseg "
                    "would keep 8 bits; write maps of 8 bits."
                )

    def _check_values(self, path: str, labels: np.ndarray) -> None:
        counts = np.bincount(labels.ravel(), minlength=256)
        beyond = set(np.flatnonzero(counts[self.num_classes :]) + self.num_classes)
        if wrong := sorted(beyond - self.ignored):
            ignored = " or ".join(map(str, sorted(self.ignored)))
            raise UserError(
                f"{path}: expected labels of 0..{self.num_classes - 1}, or {ignored} "
                f"to be ignored, got {wrong[0]} in {counts[wrong[0]]} pixels; mend "
                "the map, name every class in metainfo=dict(classes=(...)) of the data "
                "set, or set reduce_zero_label=True there if the classes begin at 1."
            )


@dataclass(frozen=True)
class LabelCounts:
    """Pixels of each class in the label maps that were read.

    Attributes:
        pixels: by class, K.
        ignored: pixels that do not count.
        maps: how many were read.
        total: how many there are.
    """

    pixels: list[int]
    ignored: int
    maps: int
    total: int

    def __add__(self, other: "LabelCounts") -> "LabelCounts":
        return LabelCounts(
            [sum(pair) for pair in zip(self.pixels, other.pixels, strict=True)],
            self.ignored + other.ignored,
            self.maps + other.maps,
            self.total + other.total,
        )


def count_labels(dataset: BaseDataset) -> LabelCounts | None:
    """Count the pixels of the classes, until all are found or some seconds are over.

    Args:
        dataset: of mmseg, with a `CheckLabelMap` in its pipeline.

    Returns:
        The counts over maps in random, always equal, order; None if the data set does
        not load maps or name its classes.

    Raises:
        UserError: a map among those read is not sound.
    """
    transforms = dataset.pipeline.transforms
    places = [i for i, one in enumerate(transforms) if isinstance(one, CheckLabelMap)]
    if not places or transforms[places[0]].num_classes is None:
        return None
    load, check = transforms[places[0] - 1 : places[0] + 1]
    counts, maps = np.zeros(256, int), 0
    end = time.monotonic() + _SECONDS
    for index in np.random.default_rng(0).permutation(len(dataset)).tolist():
        results = check(load(dataset.get_data_info(index)))
        counts += np.bincount(results["gt_seg_map"].ravel(), minlength=256)
        maps += 1
        found = maps >= _FEWEST_MAPS and counts[: check.num_classes].all()
        if found or time.monotonic() > end:
            break
    pixels = counts[: check.num_classes]
    ignored = int(counts.sum() - pixels.sum())
    return LabelCounts(pixels.tolist(), ignored, maps, len(dataset))
