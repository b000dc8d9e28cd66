"""Every stitch learns the levels of the largest anchor, around any dense model.

Paper: the sandwich rule's distillation from the largest network, arXiv 1903.05134,
section 3.2, here on features. Stitchable Neural Networks (arXiv 2302.06586, section 4)
distil the classes of a foreign RegNetY; dense models have no such common output.
"""

import torch
from torch import Tensor

from mmrev.models.stitching import StitchedBackbone
from mmrev.models.stitching.fit import evaluating
from mmrev.models.supervision.supervised_model import SupervisedModel
from mmrev.registry import MODELS


@MODELS.register_module()
class StitchDistillation(SupervisedModel):
    """Add a distillation from the largest anchor to a model with stitches.

    ``loss_distill`` is ``weight`` times the squared error of the chosen stitch's levels
    over the variance of the largest anchor's, averaged over the levels; 0 in steps that
    the largest anchor takes itself. It runs in evaluation mode and gets no gradient.
    A step costs its forward pass more.

    Args:
        model: config of a detector, segmentor or classifier whose ``backbone`` is a
            `StitchedBackbone`.
        weight: of the loss.
        data_preprocessor: as of `SupervisedModel`.

    Raises:
        ValueError: if the backbone is another, or lacks its largest anchor.
    """

    def __init__(
        self, model: dict, weight: float = 1.0, data_preprocessor: dict | None = None
    ):
        super().__init__(model, data_preprocessor)
        backbone = getattr(self.model, "backbone", None)
        if not isinstance(backbone, StitchedBackbone):
            raise ValueError(
                "StitchDistillation: expected a model whose backbone is a "
                f"mmrev.StitchedBackbone, got {type(backbone).__name__}. Train this "
                "model without the wrapper."
            )
        self._teacher = len(backbone.anchors) - 1
        if self._teacher not in backbone.stitch_ids:
            raise ValueError(
                "StitchDistillation: expected a backbone with all its stitches, got "
                f"only={backbone.stitch_ids[0]}. Train it without the wrapper."
            )
        self.weight = weight

    def supervise(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The inner model's losses, and the distillation.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: of the inner model.
        """
        losses, levels = self.losses_and_output(
            self.model.backbone, inputs, data_samples
        )
        error = self._error(inputs, levels)
        return {**losses, "loss_distill": self.weight * error}

    def _error(self, image: Tensor, levels: tuple[Tensor, ...]) -> Tensor:
        backbone = self.model.backbone
        stitch = backbone.stitch
        if stitch == self._teacher:
            return levels[0].new_zeros(())
        with evaluating(backbone), torch.no_grad():
            backbone.set_stitch(self._teacher)
            try:
                targets = backbone(image)
            finally:
                backbone.set_stitch(stitch)
        errors = [
            (level.float() - target.float()).square().mean()
            / target.float().var().clamp(min=1e-12)
            for level, target in zip(levels, targets, strict=True)
        ]
        return sum(errors) / len(errors)
