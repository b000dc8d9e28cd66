"""The validation loss of classifiers, which scaling laws are about."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from mmrev.registry import METRICS

__all__ = ["CrossEntropyMetric"]

_LEAST = torch.finfo(torch.float32).tiny


@METRICS.register_module()
class CrossEntropyMetric(BaseMetric):
    """Mean negative log-likelihood of the true classes, in nats.

    Of images with one class each, and of the scores that a classifier gives its
    classes: what `torch.nn.functional.cross_entropy` is without smoothing.
    """

    protocol = "cross-entropy (nats)"

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Note the loss of each image.

        Args:
            data_batch: not used.
            data_samples: with `pred_score`, probabilities, (classes,), and `gt_label`,
                (1,).

        Raises:
            ValueError: an image has not one class.
        """
        for sample in data_samples:
            label = sample["gt_label"]
            if label.numel() != 1:
                raise ValueError(
                    "CrossEntropyMetric: expected one class an image, got "
                    f"{label.numel()}; use mmpretrain's multi-label metrics."
                )
            # A score that underflows has a loss, too: that of the least float.
            score = sample["pred_score"].float()[int(label)].clamp(min=_LEAST)
            self.results.append(-score.log().item())

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Average over the images of all processes."""
        return {"cross_entropy": sum(results) / len(results)}
