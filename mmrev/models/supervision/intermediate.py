"""Losses on intermediate columns, around any detector, segmentor or classifier.

Paper: RevCol, arXiv 2212.11696, section 2.3: early columns should keep the image, late
ones the classes.
Reference: megvii-research/RevCol @1680848, models/revcol.py and loss.py.
Deviations: any number of columns; dense tasks, with the classes present in the image as
target; padding is left out of the reconstruction.
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModel, BaseModule
from torch import Tensor, nn

from mmrev.models.supervision.heads import build_classifier, build_decoder
from mmrev.models.supervision.targets import (
    class_presence,
    image_labels,
    image_target,
    padding_mask,
    reconstruction_loss,
)
from mmrev.registry import MODELS

MOST_TAPS = 4
INNER = "model."


def tap_columns(num_columns: int) -> list[int]:
    """The supervised columns: the last one of every quarter, rounded, none twice."""
    ends = {max(1, (quarter * num_columns + 2) // 4) for quarter in (1, 2, 3, 4)}
    return [end - 1 for end in sorted(ends)]


@MODELS.register_module()
class IntermediateSupervision(BaseModel):
    """Add intermediate supervision to a model; what it predicts stays untouched.

    Tap i of n (from 0) adds to the model's losses

    - ``loss_supervision_rec_{i}``, all but the last:
      ``rec_weight * (1 - i / (n - 1))`` times the BCE of the reconstructed image;
    - ``loss_supervision_cls_{i}``: ``cls_weight * (i + 1) / n``, at the last 1, times
      the classification loss. Dense models: BCE of which classes the image shows.
      Classifiers: the ``loss_module`` of their own head, mixed labels included; the
      last column is left to that head.

    In a state dict the inner model's keys are its own, as without this wrapper, and
    the heads' start with ``supervision.``: a checkpoint fits the plain model once
    these are dropped, and that of a plain model fits here for all but these.
    Attributes that this class does not have are the inner model's.

    Args:
        model: config of any mmdet detector, mmseg segmentor or mmpretrain classifier
            whose ``backbone`` offers ``tap(columns)``, ``num_columns`` and
            ``channels``, as `mmrev.RevCol` does.
        num_classes: of the classification targets.
        rec_weight: of the reconstruction at the first tap.
        cls_weight: of the classification, growing with the tap.
        data_preprocessor: of the inner model, if its own config has none (this is where
            mmengine's runner puts a config's top-level one).

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
        if data_preprocessor is not None:
            model = {"data_preprocessor": data_preprocessor, **model}
        inner = MODELS.build(model)
        super().__init__(data_preprocessor=inner.data_preprocessor)
        # One owner is enough: from here on it is found through the inner model.
        del self.data_preprocessor
        self.model = inner
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
        self.register_state_dict_post_hook(_strip_inner)
        self.register_load_state_dict_pre_hook(_restore_inner)

    def __getattr__(self, name: str) -> Any:
        """An attribute of this wrapper, or else of the inner model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor"
    ) -> Any:
        """Run the model; with mode 'loss', also the supervision.

        Args:
            inputs: images, (N, 3, H, W).
            data_samples: of the inner model.
            mode: 'loss', 'predict' or 'tensor'.

        Returns:
            What the inner model returns; with mode 'loss', more losses.
        """
        if mode != "loss":
            return self.model(inputs, data_samples, mode)
        with self.model.backbone.tap(self.tap_columns) as taps:
            losses = self.model(inputs, data_samples, mode)
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


def _strip_inner(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Give the inner model's keys the names they have without the wrapper."""
    inner = prefix + INNER
    for key in [key for key in state_dict if key.startswith(inner)]:
        state_dict[prefix + key.removeprefix(inner)] = state_dict.pop(key)
    # Versions of modules, by which some adapt old weights: readable under both names.
    versions = state_dict._metadata
    for key in [key for key in versions if key.startswith(inner)]:
        versions[prefix + key.removeprefix(inner)] = versions[key]


def _restore_inner(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Undo `_strip_inner` before loading."""
    own = f"{prefix}supervision."
    for key in [key for key in state_dict if key.startswith(prefix)]:
        if not key.startswith(own):
            state_dict[prefix + INNER + key.removeprefix(prefix)] = state_dict.pop(key)
