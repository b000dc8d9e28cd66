"""The linear map between two networks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Stitch(nn.Linear):
    """A linear map of the channels, optionally trained by an update of low rank.

    Papers: arXiv 2302.06586; the update: LoRA as in SN-Netv2, arXiv 2307.00154,
    section 3.3 (``W + up @ down / rank``; ``W`` is frozen, the bias is not).

    Args:
        in_channels: of the feature.
        out_channels: of what it becomes.
        rank: of the update; None trains the whole matrix.
    """

    def __init__(self, in_channels: int, out_channels: int, rank: int | None = None):
        super().__init__(in_channels, out_channels)
        self.rank = rank
        if rank is not None:
            self.weight.requires_grad_(False)
            self.down = nn.Parameter(torch.empty(rank, in_channels))
            self.up = nn.Parameter(torch.zeros(out_channels, rank))
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def matrix(self) -> Tensor:
        """What it multiplies by, (out_channels, in_channels)."""
        if self.rank is None:
            return self.weight
        return self.weight + self.up @ self.down / self.rank

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_channels) to (..., out_channels)."""
        return F.linear(x, self.matrix(), self.bias)

    @torch.no_grad()
    def set(self, weight: Tensor, bias: Tensor) -> None:
        """Take over a solution; an update starts anew.

        Args:
            weight: (out_channels, in_channels).
            bias: (out_channels,).
        """
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        if self.rank is not None:
            self.up.zero_()
