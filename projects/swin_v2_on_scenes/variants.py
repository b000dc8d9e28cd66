"""Swin-V2 with one thing changed, to find out what it lacks on few small images."""

import torch
from torch import Tensor, nn

from mmrev.models.backbones import SwinTransformerV2
from mmrev.models.backbones.swin_transformer_v2 import Block, PostNorm
from mmrev.registry import MODELS


class ConvolutionalStem(nn.Module):
    """Two overlapping 3x3 convolutions of stride 2 in the place of 4x4 patches.

    Early Convolutions Help Transformers See Better, arXiv 2106.14881, in its smallest
    form.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(3, channels // 2, 3, stride=2, padding=1)
        self.proj = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, ceil(H / 4), ceil(W / 4), C)."""
        x = self.proj(nn.functional.gelu(self.first(x)))
        return self.norm(x.permute(0, 2, 3, 1))


class Neighbours(nn.Conv2d):
    """A depth-wise 3x3 convolution that is added to its input.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same."""
        return x + super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@MODELS.register_module()
class SwinVariant(SwinTransformerV2):
    """Swin-V2 as published, or with one thing changed.

    Args:
        changed: 'nothing'; 'norms', post-norms start at 0.1 instead of 0; 'stem', see
            `ConvolutionalStem`; 'mlp', see `Neighbours`, behind the first layer of
            every MLP.
        **settings: of `mmrev.SwinTransformerV2`.

    Raises:
        ValueError: on another change.
    """

    def __init__(self, changed: str = "nothing", **settings):
        super().__init__(**settings)
        choices = ("nothing", "norms", "stem", "mlp")
        if changed not in choices:
            raise ValueError(
                f"SwinVariant: changed must be one of {', '.join(choices)}, got "
                f"{changed!r}."
            )
        self.changed = changed
        if changed == "stem":
            self.stem = ConvolutionalStem(self.channels[0])
        if changed == "mlp":
            for block in filter(lambda m: isinstance(m, Block), self.modules()):
                first = block.mlp.layer.fc1
                block.mlp.layer.fc1 = nn.Sequential(
                    first, Neighbours(first.out_features)
                )

    @torch.no_grad()
    def _init_weights(self) -> None:
        super()._init_weights()
        for module in self.modules():
            if isinstance(module, Neighbours):
                module.reset_parameters()
            if isinstance(module, PostNorm) and self.changed == "norms":
                nn.init.constant_(module.norm.weight, 0.1)
