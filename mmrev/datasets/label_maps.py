"""What a label map must hold, checked when it is read."""

from io import BytesIO
from typing import Any

import numpy as np
from mmengine.fileio import get
from PIL import Image

from mmrev.datasets.images import turned_by, unturned
from mmrev.errors import UserError

__all__ = ["CheckLabelMap"]

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
            image = results["img_path"]
            why = turned_by(image, labels.shape, (height, width))
            raise UserError(
                f"{path}: expected the size of its image {image}, {width} x {height}"
                f"{why}, got {labels.shape[1]} x {labels.shape[0]}; {unturned(why)}"
                "mend the map."
            )
        self._check_depth(path)
        if self.num_classes is not None:
            self._check_values(path, labels)
        return results

    def _check_depth(self, path: str) -> None:
        content = BytesIO(get(path, backend_args=self.backend_args))
        try:
            with Image.open(content) as image:
                most = np.asarray(image).max() if image.mode in _DEEP else 0
        # What only another decoder reads is that decoder's business, and on what it
        # cannot read PIL raises all kinds.
        except Exception:
            return
        if most > 255:
            raise UserError(
                f"{path}: expected labels of 0..255, got {most}, of which mmseg would "
                "keep 8 bits; write maps of 8 bits."
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
