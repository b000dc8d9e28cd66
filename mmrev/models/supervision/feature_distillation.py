"""A backbone learns the features of a frozen one, alone or beside any model's losses.

Paper: Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature
Distillation, arXiv 2205.14141, section 3.
Reference: SwinTransformer/Feature-Distillation @2115145, MIT,
models/feature_distillation.py. Written anew; same loss.
Deviations: any levels, of which the loss is the mean (there the last alone); around any
detector, segmentor or classifier; padding is left out of the mean. The teacher sees the
student's images as they are (there CLIP's have its own mean and deviation). The other
half of the paper's student, a position bias that blocks share, is
``position_bias='stage'`` of `mmrev.SwinTransformerV2`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmrev.models.supervision.supervised_model import SupervisedModel
from mmrev.models.supervision.targets import padding_mask
from mmrev.models.supervision.teacher import Teacher
from mmrev.registry import MODELS

BETA = 2.0


@MODELS.register_module()
class FeatureDistillation(SupervisedModel):
    """Add a distillation of a teacher's features to a model.

    ``loss_distill`` is ``weight`` times the mean over the levels of the smooth L1 loss,
    of beta 2, between the student's level under a 1x1 convolution and the teacher's
    map, whitened: each of its cells less the mean of its channels, over their
    deviation.

    The convolutions' keys in a state dict start with ``supervision.``; the teacher has
    none (see `Teacher`). A step costs its forward pass more.

    Args:
        model: config of a detector, segmentor or classifier; to pretrain by
            distillation alone, of `mmrev.BareModel`.
        teacher: config of a backbone, see `Teacher`, that gives a map for each of
            ``levels``: by its ``out_indices``, and by ``out_type='featmap'`` of
            mmpretrain's ViT.
        in_channels: of the student's levels that learn, one number a level.
        out_channels: of the teacher's maps.
        levels: which outputs of the student's backbone learn, as indices of what it
            returns; by default the last alone.
        weight: of the loss.
        data_preprocessor: as of `SupervisedModel`.

    Raises:
        ValueError: on a model without a backbone, settings that do not belong together,
            a teacher without weights; in the first step, if the teacher's maps do not
            lie at the student's strides, or channels are others.
    """

    def __init__(
        self,
        model: dict,
        teacher: Mapping[str, Any],
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        levels: Sequence[int] = (-1,),
        weight: float = 1.0,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(model, data_preprocessor)
        if not hasattr(self.model, "backbone"):
            raise ValueError(
                "FeatureDistillation: expected a model with a backbone, got "
                f"{type(self.model).__name__}. Wrap a detector, a segmentor, a "
                "classifier, or a backbone alone as "
                "dict(type='mmrev.BareModel', backbone=...)."
            )
        if not levels or not len(levels) == len(in_channels) == len(out_channels):
            raise ValueError(
                "FeatureDistillation: expected in_channels and out_channels of one "
                f"number for each of levels={tuple(levels)}, got {tuple(in_channels)} "
                f"and {tuple(out_channels)}."
            )
        self.teacher = Teacher(teacher, "FeatureDistillation")
        self.levels = tuple(levels)
        self.weight = weight
        self.supervision = nn.ModuleList(
            nn.Conv2d(*pair, kernel_size=1)
            for pair in zip(in_channels, out_channels, strict=True)
        )

    def supervise(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The inner model's losses, and the distillation.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: of the inner model.
        """
        losses, found = self.losses_and_output(
            self.model.backbone, inputs, data_samples
        )
        targets = self.teacher(inputs)
        levels = self._pair(inputs, found, targets)
        mask = padding_mask(inputs, data_samples)
        errors = [
            feature_loss(project(level), target, mask)
            for project, level, target in zip(
                self.supervision, levels, targets, strict=True
            )
        ]
        return {**losses, "loss_distill": self.weight * sum(errors) / len(errors)}

    def _pair(
        self, image: Tensor, found: Sequence[Tensor], targets: Sequence[Tensor]
    ) -> list[Tensor]:
        """The student's levels that learn, after a look at both sides' shapes."""
        count = len(self.levels)
        maps = [t.ndim == 4 for t in targets]
        if len(maps) != count or not all(maps):
            shapes = ", ".join(str(tuple(target.shape)) for target in targets)
            raise ValueError(
                f"FeatureDistillation: expected {count} maps (N, C, H, W) of the "
                f"teacher, one for each of levels={self.levels}, got {shapes}. Choose "
                "them by its out_indices; a ViT gives maps with out_type='featmap'."
            )
        if not all(-len(found) <= level < len(found) for level in self.levels):
            raise ValueError(
                f"FeatureDistillation: levels must lie in -{len(found)}.."
                f"{len(found) - 1}, the outputs of the student's backbone, got "
                f"{self.levels}."
            )
        levels = [found[level] for level in self.levels]
        if [_size(x) for x in levels] != [_size(x) for x in targets]:
            raise ValueError(_other_strides(self.levels, image, found, targets))
        channels = {
            "in_channels": [level.shape[1] for level in levels],
            "out_channels": [target.shape[1] for target in targets],
        }
        given = {
            "in_channels": [conv.in_channels for conv in self.supervision],
            "out_channels": [conv.out_channels for conv in self.supervision],
        }
        if channels != given:
            raise ValueError(
                "FeatureDistillation: expected the channels of the student's levels "
                f"and of the teacher's maps, {channels}, got {given}. Set these."
            )
        return levels


def feature_loss(level: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Smooth L1 loss of a level, the mean over the channels and the images' own cells.

    Args:
        level: the student's, (N, C, h, w).
        target: the teacher's, of the same shape; it is whitened here.
        mask: where the input shows images, (N, 1, H, W), 1 there and 0 in padding.
    """
    whitened = F.layer_norm(target.float().movedim(1, -1), target.shape[1:2])
    error = F.smooth_l1_loss(
        level.float(), whitened.movedim(-1, 1), beta=BETA, reduction="none"
    )
    mask = F.adaptive_max_pool2d(mask, level.shape[-2:])  # cells with a pixel of images
    return (error * mask).sum() / (mask.sum() * level.shape[1])


def _size(x: Tensor) -> tuple[int, int]:
    return tuple(x.shape[-2:])


def _other_strides(
    chosen: Sequence[int],
    image: Tensor,
    found: Sequence[Tensor],
    targets: Sequence[Tensor],
) -> str:
    """What is wrong with the sizes of the teacher's maps, and what would work."""

    def strides(maps: Sequence[Tensor]) -> tuple[int, ...]:
        return tuple(round(max(image.shape[-2:]) / max(_size(x))) for x in maps)

    wanted = strides([found[level] for level in chosen])
    sizes = {_size(x): index for index, x in enumerate(found)}
    fitting = tuple(sizes[_size(x)] for x in targets if _size(x) in sizes)
    advice = f"Give the teacher, by its out_indices, maps of strides {wanted}"
    if len(fitting) == len(targets):
        advice += f", or set levels={fitting} and their in_channels"
    return (
        f"FeatureDistillation: expected maps of the teacher at the strides of "
        f"levels={tuple(chosen)}, {wanted}, got {strides(targets)} on images of "
        f"{_size(image)}. The student's backbone returns strides {strides(found)}. "
        f"{advice}."
    )
