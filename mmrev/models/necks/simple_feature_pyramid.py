"""Four levels of the last map of a plain Vision Transformer.

Paper: Exploring Plain Vision Transformer Backbones for Object Detection, arXiv
2203.16527, section 3 and appendix A. Written anew from the paper.
"""

import math

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrev.models.layers import LayerNorm2d
from mmrev.registry import MODELS

STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Scale one map by transposed convolutions or pooling, then 1x1 and 3x3 to C.

    Args:
        in_channels: of the map.
        out_channels: C, of every level.
        stride: of the map, 8, 16 or 32.
        init_cfg: of mmengine.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        stride: int = 16,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if stride not in STRIDES[1:]:
            raise ValueError(
                f"SimpleFeaturePyramid: stride must be 8, 16 or 32, got {stride}."
            )
        self.channels = [out_channels] * len(STRIDES)
        self.levels = nn.ModuleList()
        for target in STRIDES:
            steps = int(math.log2(stride / target))
            layers, width = [], in_channels
            for step in range(steps):
                layers += [LayerNorm2d(width), nn.GELU()] if step else []
                layers.append(nn.ConvTranspose2d(width, width // 2, 2, 2))
                width //= 2
            layers += [nn.MaxPool2d(2, ceil_mode=True)] * -steps
            layers += [
                nn.Conv2d(width, out_channels, 1, bias=False),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            ]
            self.levels.append(nn.Sequential(*layers))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) to maps at strides 4, 8, 16 and 32, (N, C, h, w)."""
        return tuple(level(x) for level in self.levels)
