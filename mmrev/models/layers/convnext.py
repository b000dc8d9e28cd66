"""The ConvNeXt block."""

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """Depthwise conv, LayerNorm, MLP, layer scale (arXiv 2201.03545, section 2.6).

    Args:
        channels: C.
        hidden_channels: width of the MLP, default 4 C.
        kernel_size: of the depthwise convolution, odd.
        drop_path_rate: probability of leaving out the branch of a sample.
        layer_scale_init_value: initial value of the branch's per-channel scale.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int | None = None,
        kernel_size: int = 3,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
    ):
        super().__init__()
        hidden_channels = hidden_channels or 4 * channels
        self.dwconv = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, hidden_channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(hidden_channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale_init_value))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        branch = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        branch = self.gamma * self.pwconv2(self.act(self.pwconv1(branch)))
        return x + self.drop_path(branch.permute(0, 3, 1, 2))
