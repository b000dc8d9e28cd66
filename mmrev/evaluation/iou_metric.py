"""mmseg's segmentation figures, counted in one pass and exactly."""

from collections.abc import Sequence

import numpy as np
import torch
from mmseg.evaluation.metrics import IoUMetric as MMSegIoUMetric

from mmrev.evaluation.coverage import CoveredMetric, first_of_each, image_key
from mmrev.evaluation.kept import Kept
from mmrev.registry import METRICS

__all__ = ["IoUMetric"]


@METRICS.register_module()
class IoUMetric(CoveredMetric, MMSegIoUMetric):
    """mmseg's `IoUMetric`: same arguments, same figures (mIoU, mAcc, aAcc and others).

    Pixels are counted as integers, so that no sum over a large data set is rounded.
    Labels that are no class are refused, where mmseg leaves them out of some counts
    and in others. An image without predictions adds nothing to the figures, which is
    why `coverage` tells of it.
    """

    protocol = "mmseg (pixels of all images together)"

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch: not used.
            data_samples: with `img_path`, `pred_sem_seg` and `gt_sem_seg`, whose
                `data` are labels (1, H, W).

        Raises:
            ValueError: names the image whose labels are no classes.
        """
        for sample in data_samples:
            start = len(self.results)
            try:
                super().process(data_batch, [sample])
            except ValueError as error:
                raise ValueError(
                    f"IoUMetric: image {image_key(sample)}: {error}"
                ) from error
            # Where files are written alone, nothing is counted.
            self.results[start:] = [
                (image_key(sample), *self._counted(sample, counts))
                for counts in self.results[start:] or [()]
            ]

    def _counted(
        self, sample: dict, counts: Sequence[torch.Tensor]
    ) -> tuple[int, Kept] | tuple[()]:
        """Pixels; and those in intersection, union, prediction, truth, (4, classes)."""
        if not counts:
            return ()
        pixels = sample["gt_sem_seg"]["data"].numel()
        return pixels, self._kept.keep(torch.stack(counts).numpy())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Add up the counts of all images.

        Args:
            results: of all processes.

        Returns:
            The figures by name, in percent.
        """
        results = first_of_each(results)
        self._cover(len(results))
        if not results:
            raise ValueError("IoUMetric: no image has predictions; nothing to average.")
        if self.format_only:
            return super().compute_metrics([])
        total = sum(counts for _, _, counts in results)
        self._tell_classes(total, sum(pixels for _, pixels, _ in results))
        return super().compute_metrics([tuple(torch.from_numpy(total))])

    def _tell_classes(self, total: np.ndarray, pixels: int) -> None:
        """Say of what the figures are means, and of which pixels."""
        _, union, _, true = total
        classes = self.dataset_meta["classes"]
        absent = [name for name, one in zip(classes, true, strict=True) if not one]
        # A class that is only predicted counts with an IoU of 0, as the field does it.
        averaged = int((union > 0).sum()) if self.nan_to_num is None else len(classes)
        self._remark(
            f"mIoU is the mean over the {averaged} of {len(classes)} classes that are "
            "true or predicted anywhere",
            absent,
            f"{100 * (1 - int(true.sum()) / pixels):.2f} % of the pixels are ignored",
        )

    @staticmethod
    def intersect_and_union(
        pred_label: torch.Tensor,
        label: torch.Tensor,
        num_classes: int,
        ignore_index: int,
    ) -> tuple[torch.Tensor, ...]:
        """Count pixels by class.

        Args:
            pred_label: predicted labels, (H, W).
            label: true labels, (H, W).
            num_classes: classes.
            ignore_index: true label of pixels that do not count.

        Returns:
            Pixels in the intersection, the union, the prediction and the truth of
            each class, (num_classes,) int64 each.

        Raises:
            ValueError: shapes differ, or a label is no class.
        """
        if pred_label.shape != label.shape:
            raise ValueError(
                "expected prediction and truth of one size, got "
                f"{tuple(pred_label.shape)} and {tuple(label.shape)}."
            )
        pred_label, label = pred_label.long(), label.long()
        ignored = label == ignore_index
        # What does not count gets a row of its own: cheaper than to leave it out. And a
        # sum is cheaper than masked_fill, which goes from pixel to pixel.
        row = torch.add(label, ignored, alpha=num_classes - ignore_index)
        if not _within(pred_label, num_classes - 1):
            raise _outside("predicted labels of 0..{}", pred_label, num_classes - 1)
        sound = _within(row, num_classes)
        if sound:
            pairs = torch.bincount(
                row.mul_(num_classes).add_(pred_label).flatten(),
                minlength=(num_classes + 1) * num_classes,
            ).view(num_classes + 1, num_classes)
            # A label may be the row's number, too.
            sound = pairs[-1].sum() == ignored.count_nonzero()
        if not sound:
            expected = f"true labels of 0..{{}} or {ignore_index}"
            raise _outside(expected, label[~ignored], num_classes - 1)
        pairs = pairs[:-1].cpu()
        intersection, predicted, true = pairs.diagonal(), pairs.sum(0), pairs.sum(1)
        return intersection, predicted + true - intersection, predicted, true


def _within(labels: torch.Tensor, last: int) -> bool:
    least, greatest = labels.aminmax()
    return bool(least >= 0 and greatest <= last)


def _outside(expected: str, labels: torch.Tensor, last: int) -> ValueError:
    least, greatest = (int(end) for end in labels.aminmax())
    found = least if least < 0 else greatest
    return ValueError(f"expected {expected.format(last)}, got {found}.")
