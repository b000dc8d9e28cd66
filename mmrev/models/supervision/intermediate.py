"""Losses on intermediate columns, around any detector, segmentor or classifier.

Paper: RevCol, arXiv 2212.11696, section 2.3: early columns should keep the image, late
ones the classes.
Reference: megvii-research/RevCol @1680848, models/revcol.py and loss.py.
Deviations: any number of columns; dense tasks, with the classes present in the image as
target; padding is left out of the reconstruction.
"""

from functools import partial

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrev.models.supervision.heads import build_classifier, build_decoder
from mmrev.models.supervision.supervised_model import SupervisedModel
from mmrev.models.supervision.targets import (
    class_presence,
    image_labels,
    image_target,
    padding_mask,
    reconstruction_loss,
)
from mmrev.registry import MODELS

MOST_TAPS = 4


def tap_columns(num_columns: int) -> list[int]:
    """The supervised columns: the last one of every quarter, rounded, none twice."""
    ends = {max(1, (quarter * num_columns + 2) // 4) for quarter in (1, 2, 3, 4)}
    return [end - 1 for end in sorted(ends)]


@MODELS.register_module()
class IntermediateSupervision(SupervisedModel):
    """Add intermediate supervision to a model; what it predicts stays untouched.

    Tap i of n (from 0) adds to the model's losses

    - ``loss_supervision_rec_{i}``, all but the last:
      ``rec_weight * (1 - i / (n - 1))`` times the BCE of the reconstructed image;
    - ``loss_supervision_cls_{i}``: ``cls_weight * (i + 1) / n``, at the last 1, times
      the classification loss. Dense models: BCE of which classes the image shows.
      Classifiers: the ``loss_module`` of their own head, mixed labels included; the
      last column is left to that head.

    In a state dict the heads' keys start with ``supervision.``.

    Args:
        model: config of any mmdet detector, mmseg segmentor or mmpretrain classifier
            whose ``backbone`` offers ``tap(columns)``, ``num_columns`` and
            ``channels``, as `mmrev.RevCol` does.
        num_classes: of the classification targets.
        rec_weight: of the reconstruction at the first tap.
        cls_weight: of the classification, growing with the tap.
        data_preprocessor: as of `SupervisedModel`.

    Raises:
        ValueError: if the backbone cannot be tapped.
    """

    def __init__(
        self,
        model: dict,
        num_classes: int,
        rec_weight: float = 3.0,
        cls_weight: float = 0.7,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(model, data_preprocessor)
        inner = self.model
        backbone = getattr(inner, "backbone", None)
        if not hasattr(backbone, "tap"):
            raise ValueError(
                "IntermediateSupervision: expected a model whose backbone offers "
                f"tap(columns), as mmrev.RevCol does, got {type(inner).__name__} with "
                f"backbone {type(backbone).__name__}, which has no columns. Train this "
                "model without the wrapper."
            )
        self.num_classes = num_classes
        self.rec_weight = rec_weight
        self.cls_weight = cls_weight
        self.tap_columns = tap_columns(backbone.num_columns)
        own_head = getattr(inner, "head", None)
        self.is_classifier = hasattr(own_head, "loss_module")
        self.supervision = SupervisionHeads(
            backbone.channels,
            num_classes,
            num_classifiers=len(self.tap_columns) - self.is_classifier,
            num_decoders=len(self.tap_columns) - 1,
        )

    def supervise(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The inner model's losses, and those of the taps.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: of the inner model.
        """
        with self.model.backbone.tap(self.tap_columns) as taps:
            losses = self.model(inputs, data_samples, mode="loss")
        features = [taps[column] for column in self.tap_columns]
        return {
            **losses,
            **self._reconstruction_losses(features, inputs, data_samples),
            **self._classification_losses(features, data_samples),
        }

    def _reconstruction_losses(
        self, features: list[Tensor], inputs: Tensor, data_samples: list
    ) -> dict[str, Tensor]:
        target = image_target(inputs, self.data_preprocessor)
        mask = padding_mask(inputs, data_samples)
        last = len(features) - 1
        return {
            f"loss_supervision_rec_{i}": self.rec_weight
            * (1 - i / last)
            * reconstruction_loss(decode(features[i]), target, mask)
            for i, decode in enumerate(self.supervision.decoders)
        }

    def _classification_losses(
        self, features: list[Tensor], data_samples: list
    ) -> dict[str, Tensor]:
        if self.is_classifier:
            target = image_labels(data_samples)
            criterion = partial(
                self.model.head.loss_module, avg_factor=len(data_samples)
            )
        else:
            target = class_presence(data_samples, self.num_classes)
            criterion = F.binary_cross_entropy_with_logits
        weights = [self.cls_weight * i / len(features) for i in range(1, len(features))]
        weights.append(1.0)
        return {
            f"loss_supervision_cls_{i}": weights[i]
            * criterion(classify(features[i]).float(), target)
            for i, classify in enumerate(self.supervision.classifiers)
        }


class SupervisionHeads(BaseModule):
    """The parameters of the supervision.

    Args:
        channels: of a column's levels, finest first.
        num_classes: of the classifiers.
        num_classifiers: how many taps have a classifier.
        num_decoders: how many taps have a decoder.
    """

    def __init__(
        self,
        channels: list[int],
        num_classes: int,
        num_classifiers: int,
        num_decoders: int,
    ):
        super().__init__(
            init_cfg={"type": "TruncNormal", "layer": ["Conv2d", "Linear"], "std": 0.02}
        )
        self.classifiers = nn.ModuleList(
            build_classifier(channels[-1], num_classes) for _ in range(num_classifiers)
        )
        self.decoders = nn.ModuleList(
            build_decoder(channels, num_classes) for _ in range(num_decoders)
        )
