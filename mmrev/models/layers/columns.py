"""What columns consist of: levels, their fusion, and columns that run bottom-up.

Paper: RevCol, arXiv 2212.11696, sections 2.2.1 and A.
Reference: megvii-research/RevCol @1680848, Apache-2.0 (models/revcol.py).
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrev.models.layers.conv import Conv2d
from mmrev.models.layers.convnext import ConvNeXtBlock
from mmrev.models.layers.linear import Linear
from mmrev.models.layers.norm import LayerNorm2d
from mmrev.models.layers.padding import pad_to_multiple

NUM_LEVELS = 4


class Level(nn.Module):
    """One level of one column: fusion, then ConvNeXt blocks.

    Args:
        index: which level, 0 is the finest.
        channels: channels of all levels.
        coarser: levels coarser than itself that it reads.
        drop_path_rates: one a block.
        **block_settings: of `ConvNeXtBlock`.
    """

    def __init__(
        self,
        index: int,
        channels: Sequence[int],
        coarser: Sequence[int],
        drop_path_rates: Sequence[float],
        **block_settings,
    ):
        super().__init__()
        width = channels[index]
        if index:
            self.down = nn.Sequential(
                Conv2d(channels[index - 1], width, kernel_size=2, stride=2),
                LayerNorm2d(width),
            )
        self.ups = nn.ModuleList(
            nn.Sequential(
                Linear(channels[source], width), nn.LayerNorm(width, eps=1e-6)
            )
            for source in coarser
        )
        self.scales = [2 ** (source - index) for source in coarser]
        self.blocks = nn.Sequential(
            *(
                ConvNeXtBlock(width, drop_path_rate=rate, **block_settings)
                for rate in drop_path_rates
            )
        )

    def forward(self, below: Tensor, *above: Tensor) -> Tensor:
        """Compute the level's update.

        Args:
            below: finer feature, (N, C[l-1], 2H, 2W) or one less in H or W; at level 0
                the stem's output, (N, C[0], H, W).
            *above: features of the coarser levels.

        Returns:
            (N, C[l], H, W).
        """
        x = self.down(pad_to_multiple(below, 2)) if hasattr(self, "down") else below
        height, width = x.shape[-2:]
        for fine in self.enlarged(above):
            x = x + fine[..., :height, :width]
        return self.blocks(x)

    def enlarged(self, coarser: Sequence[Tensor]) -> Iterator[Tensor]:
        """Coarser features, brought to this level's width and resolution."""
        for up, scale, source in zip(self.ups, self.scales, coarser, strict=True):
            coarse = up(source.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            yield F.interpolate(coarse, scale_factor=scale, mode="nearest")


class BottomUpColumn(nn.Module):
    """A column from the finest level to the coarsest; see `mmrev.reversible.Column`.

    Args:
        channels: channels of the levels.
        above: for each level, the levels of the previous column that it reads; empty
            in the first column.
        drop_path_rates: for each level, one a block.
        **block_settings: of `ConvNeXtBlock`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        above: Sequence[Sequence[int]],
        drop_path_rates: Sequence[Sequence[float]],
        **block_settings,
    ):
        super().__init__()
        self.above = above
        self.levels = nn.ModuleList(
            Level(index, channels, above[index], rates, **block_settings)
            for index, rates in enumerate(drop_path_rates)
        )
        self.gains = make_gains(channels)


def make_gains(channels: Sequence[int]) -> nn.ParameterList:
    """The gains of a column: a factor for each channel of each level."""
    return nn.ParameterList(
        nn.Parameter(torch.full((1, width, 1, 1), 0.5)) for width in channels
    )


def check_sizes(
    family: str, channels: Sequence[int], depths: Sequence[int], num_columns: int
) -> None:
    """Refuse columns of other than four levels, or none.

    Args:
        family: the backbone's name, for the message.
        channels: of the levels.
        depths: blocks of the levels.
        num_columns: how many columns.

    Raises:
        ValueError: on other sizes.
    """
    for key, values in (("channels", channels), ("depths", depths)):
        if len(values) != NUM_LEVELS or min(values) < 1:
            raise ValueError(
                f"{family}: arch {key} must be {NUM_LEVELS} numbers >= 1, got {values}."
            )
    if num_columns < 1:
        raise ValueError(f"{family}: arch num_columns must be >= 1, got {num_columns}.")
