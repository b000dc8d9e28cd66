"""Small columns of one width that use everything the protocol allows."""

import torch
from torch import Tensor, nn

LEVELS = 3


class ToyLevel(nn.Module):
    def __init__(self, channels: int, sources: int, dropout: float, norm: type):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.ups = nn.ModuleList(
            nn.Conv2d(channels, channels, 1) for _ in range(sources)
        )
        self.norm = norm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, below: Tensor, *above: Tensor) -> Tensor:
        x = below
        for up, source in zip(self.ups, above, strict=True):
            x = x + up(source)
        return self.dropout(torch.tanh(self.norm(self.conv(x))))


class ToyColumn(nn.Module):
    def __init__(self, channels: int, is_first: bool, gain: float, **settings):
        super().__init__()
        self.above = [[]] * LEVELS if is_first else [[1, 2], [2], []]
        self.levels = nn.ModuleList(
            ToyLevel(channels, len(sources), **settings) for sources in self.above
        )
        self.gains = nn.ParameterList(
            torch.full((1, channels, 1, 1), gain) for _ in range(LEVELS)
        )
        self.gains.requires_grad_(not is_first)


def toy_columns(
    count: int,
    channels: int = 4,
    gain: float = 0.8,
    dropout: float = 0.2,
    norm: type = nn.Identity,
    dtype: torch.dtype = torch.float64,
) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(
        ToyColumn(channels, i == 0, gain, dropout=dropout, norm=norm)
        for i in range(count)
    ).to(dtype)
