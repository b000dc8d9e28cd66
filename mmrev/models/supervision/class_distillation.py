"""A classifier learns the classes that a frozen one would choose.

Paper: hard-label distillation of DeiT, arXiv 2012.12877, section 4; without its token,
as Stitchable Neural Networks, arXiv 2302.06586, section 4, trains all stitches.
Reference: ziplab/SN-Net @c2dcf30, stitching_deit/losses.py (StitchDistillationLoss).
Written anew; same loss.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mmrev.models.supervision.supervised_model import SupervisedModel
from mmrev.models.supervision.teacher import Teacher
from mmrev.registry import MODELS


@MODELS.register_module()
class ClassDistillation(SupervisedModel):
    """Add hard distillation of a teacher's classes to a classifier.

    The losses of the classifier count ``1 - alpha``; ``loss_distill`` is ``alpha``
    times the cross entropy against the class that the teacher finds likeliest in the
    same image, mixed as it may be. The teacher's weights are in no state dict.

    Args:
        model: config of mmpretrain's ``ImageClassifier``, whose head gives logits.
        teacher: config of a classifier of the same classes, see `Teacher`.
        alpha: share of the distillation, in 0..1.
        data_preprocessor: as of `SupervisedModel`.

    Raises:
        ValueError: on a model that is no such classifier, a share outside its range, a
            teacher without weights or, in the first step, of other classes.
    """

    def __init__(
        self,
        model: dict,
        teacher: Mapping[str, Any],
        alpha: float = 0.5,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(model, data_preprocessor)
        if not hasattr(getattr(self.model, "head", None), "loss_module"):
            raise ValueError(
                "ClassDistillation: expected a classifier whose head gives logits, as "
                f"mmpretrain's ImageClassifier, got {type(self.model).__name__}. Dense "
                "models learn features: mmrev.FeatureDistillation."
            )
        if not 0 <= alpha <= 1:
            raise ValueError(
                f"ClassDistillation: alpha must lie in 0..1, got {alpha}. SN-Net has "
                "0.5."
            )
        self.teacher = Teacher(teacher, "ClassDistillation")
        self.alpha = alpha

    def supervise(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The classifier's losses, and the distillation.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: of the classifier.
        """
        losses, logits = self.losses_and_output(self.model.head, inputs, data_samples)
        found = self.teacher(inputs)
        if found.shape != logits.shape:
            raise ValueError(
                "ClassDistillation: expected logits of the teacher like the model's, "
                f"{tuple(logits.shape)}, got {tuple(found.shape)}. Give a teacher of "
                "the same classes."
            )
        losses = {
            name: (1 - self.alpha) * loss if "loss" in name else loss
            for name, loss in losses.items()
        }
        distill = F.cross_entropy(logits.float(), found.argmax(1))
        return {**losses, "loss_distill": self.alpha * distill}
