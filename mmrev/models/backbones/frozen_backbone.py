"""A backbone that a training leaves as it is, whole.

`frozen_stages` of the backbones themselves freezes a front of them, whose graph and
drop path some keep.
"""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import nn

from mmrev.models.inner_names import keep_inner_names
from mmrev.registry import MODELS


@MODELS.register_module()
class FrozenBackbone(BaseModule):
    """Builds any registered backbone and leaves its weights as they are loaded.

    It always is in evaluation mode, so that statistics, dropout and drop path stand
    still, and runs without a graph: a training step keeps nothing of it but its
    levels, in any memory mode. In a state dict the keys are the backbone's own, so that
    checkpoints of trainings with and without this fit each other. Attributes that it
    does not have are the backbone's.

    ``track = 'frozen'`` at the top of a config puts it there.

    Args:
        of: type of the backbone, as "mmrev.RevCol", "mmdet.ResNet" or
            "mmpretrain.TIMMBackbone".
        **settings: of the backbone; weights to start from are in its `init_cfg`.
    """

    def __init__(self, of: str, **settings: Any):
        super().__init__()
        self.model = MODELS.build({**settings, "type": of})
        self.model.requires_grad_(False).eval()
        keep_inner_names(self)

    def __getattr__(self, name: str) -> Any:
        """An attribute of this module, or else of the backbone."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode of this module alone; return self."""
        super().train(mode)
        self.model.eval()
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the backbone returns, of which nothing asks for a gradient."""
        return self.model(*args, **kwargs)
