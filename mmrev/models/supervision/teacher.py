"""A trained model that others learn from."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmrev.datasets.batches import seeded
from mmrev.errors import shortened
from mmrev.models.backbones.base import Backbone
from mmrev.registry import MODELS

# Where a config names weights: of OpenMMLab, and of timm inside of it.
WEIGHTS = ("init_cfg", "pretrained")


class Teacher:
    """Answers images, in evaluation mode and without a graph.

    No part of the model that asks: its weights are in no state dict, optimizer, average
    or count. It is built and loaded when it is first asked, so that a test needs none,
    and draws no random number of the training's.

    Args:
        config: of any backbone or classifier of mmrev, mmdet, mmseg or mmpretrain, of
            timm by mmpretrain's ``TIMMBackbone`` and ``TimmClassifier``.
        asked_by: the class that asks, for messages.

    Raises:
        ValueError: if the config names no weights; when it is first asked, if the
            checkpoint lacks some.
    """

    def __init__(self, config: Mapping[str, Any], asked_by: str):
        if not any(key in config for key in WEIGHTS):
            raise ValueError(
                f"{asked_by}: expected a teacher with weights, got "
                f"{config.get('type')} without init_cfg. Set "
                "init_cfg=dict(type='Pretrained', checkpoint='...') in it, with "
                "prefix='backbone.' where the file is of a whole model and the teacher "
                "a backbone of another toolbox."
            )
        self.config = copy.deepcopy(dict(config))
        self.asked_by = asked_by
        self._model: nn.Module | None = None

    def __call__(self, images: Tensor) -> Any:
        """What the model gives for images, (N, 3, H, W)."""
        if self._model is None:
            with seeded(0):
                self._model = self._load().to(images.device)
        with torch.no_grad():
            return self._model(images)

    def _load(self) -> nn.Module:
        model = MODELS.build(copy.deepcopy(self.config))
        empty(model)
        model.init_weights()
        lacking = [n for n, p in model.named_parameters() if p.isnan().any()]
        if lacking:
            raise ValueError(
                f"{self.asked_by}: expected a checkpoint with all weights of the "
                f"teacher {type(model).__name__}, got {self.config.get('init_cfg')} "
                f"without {len(lacking)} of them ({shortened(lacking, 3)}). Give the "
                "file of this architecture, with the prefix that its keys have, and "
                "leave out of the teacher what the file lacks."
            )
        model.requires_grad_(False)
        model.eval()  # of which not every backbone returns itself
        return model


def empty(model: nn.Module) -> None:
    """Let a checkpoint, when it is loaded, leave NaN where it has no weights.

    mmengine passes over them, and a teacher would go on with initial values. Backbones
    of this suite refuse such a checkpoint themselves.
    """
    own = {
        inner
        for m in model.modules()
        if isinstance(m, Backbone)
        for inner in m.modules()
    }
    for module in set(model.modules()) - own:
        module.register_load_state_dict_pre_hook(_erase)


@torch.no_grad()
def _erase(module: nn.Module, *_: Any) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.fill_(torch.nan)
