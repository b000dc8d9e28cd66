"""Small columns and chains that use everything the protocols allow."""

import torch
from torch import Tensor, nn

LEVELS = 3
# Pairs of a dtype of parameters and one of autocast.
PRECISIONS = [
    (torch.float32, None),
    (torch.float64, None),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
    (torch.bfloat16, None),
    (torch.float16, None),
]


class ChannelNorm(nn.LayerNorm):
    """Over the channels of (N, C, H, W); magnifies what is small without a bound."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ToyLevel(nn.Module):
    def __init__(
        self, channels: int, sources: int, dropout: float, norm: type, scale: float
    ):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.ups = nn.ModuleList(
            nn.Conv2d(channels, channels, 1) for _ in range(sources)
        )
        self.norm = norm(channels)
        self.dropout = nn.Dropout(dropout)
        self.scale = scale

    def forward(self, below: Tensor, *above: Tensor) -> Tensor:
        x = below
        for up, source in zip(self.ups, above, strict=True):
            x = x + up(source)
        return self.dropout(torch.tanh(self.norm(self.conv(x)))) * self.scale


class ToyColumn(nn.Module):
    def __init__(self, channels: int, is_first: bool, gain: Tensor, **settings):
        super().__init__()
        self.above = [[]] * LEVELS if is_first else [[1, 2], [2], []]
        self.levels = nn.ModuleList(
            ToyLevel(channels, len(sources), **settings) for sources in self.above
        )
        self.gains = nn.ParameterList(
            gain.expand(channels).reshape(1, channels, 1, 1).clone()
            for _ in range(LEVELS)
        )
        self.gains.requires_grad_(not is_first)


def toy_columns(
    count: int,
    channels: int = 4,
    gain: float | list[float] = 0.8,
    dropout: float = 0.2,
    norm: type = nn.Identity,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
) -> nn.ModuleList:
    """Columns of one width; `scale` is the size of what a level adds.

    Args:
        gain: one, or one a channel.
    """
    torch.manual_seed(0)
    return nn.ModuleList(
        ToyColumn(
            channels,
            i == 0,
            torch.tensor(gain),
            dropout=dropout,
            norm=norm,
            scale=scale,
        )
        for i in range(count)
    ).to(dtype)


class ToyBlock(nn.Module):
    def __init__(self, width: int, dropout: float, scale: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        update = self.dropout(torch.tanh(self.linear(self.norm(x))))
        return x + update * self.scale


def toy_blocks(
    count: int,
    width: int = 8,
    dropout: float = 0.2,
    dtype: torch.dtype = torch.float32,
    scale: float = 0.5,
) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(ToyBlock(width, dropout, scale) for _ in range(count)).to(
        dtype
    )
