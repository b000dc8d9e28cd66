"""Columns: the protocol, and the loop that every memory mode follows.

Source: RevCol, arXiv 2212.11696, section 2.1 (equations 2 and 3):
``c[l] = gain[l] * previous[l] + level_l(below, *above)``.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mmrev.reversible.coupling import Couple, couple

GAIN_FLOOR = 1e-3


class Column(Protocol):
    """A module of one column; every column of a network has the same levels.

    Attributes:
        levels: one module a level, finest first, called as ``level(below, *above)``.
            ``below`` is this column's next finer state (the network's input ``x`` at
            level 0); the first column is called without ``above``.
        above: for each level, the levels of the previous column it reads. All must be
            coarser than itself: that is what makes the column invertible.
        gains: one parameter a level, broadcastable to the state of that level. The
            first column's are never read, but for their dtype.
    """

    levels: nn.ModuleList
    above: Sequence[Sequence[int]]
    gains: nn.ParameterList


def effective_gain(gain: Tensor, floor: float = GAIN_FLOOR) -> Tensor:
    """The gain with ``|gain| >= floor``, sign kept, an exact 0 counting as positive.

    The gradient passes unchanged, so a gain that has reached the floor can leave it.
    """
    with torch.no_grad():
        floored = torch.where(gain < 0, gain.clamp(max=-floor), gain.clamp(min=floor))
        shift = floored - gain
    return gain + shift


def run_columns(
    columns: Sequence[Column],
    x: Tensor,
    previous: Sequence[Tensor] | None = None,
    taps: Collection[int] = (),
    couples: Couple | Sequence[Couple] = couple,
) -> tuple[list[Tensor], dict[int, Tensor]]:
    """Run columns one after the other.

    Args:
        columns: the columns.
        x: the input that every column's finest level reads.
        previous: states of the column before, or None when ``columns[0]`` is first.
        taps: indices of columns whose coarsest state is also wanted.
        couples: how states are computed, one way or one a level; see `in_mode`.

    Returns:
        The last column's states, finest first, and each tapped column's coarsest state
        by index.
    """
    tapped = {}
    for number, column in enumerate(columns):
        states: list[Tensor] = []
        for index, (level, gain) in enumerate(
            zip(column.levels, column.gains, strict=True)
        ):
            way = couples if callable(couples) else couples[index]
            below = states[-1] if states else x
            if previous is None:
                states.append(way(level, (below,), gain, None))
            else:
                reads = (below, *(previous[i] for i in column.above[index]))
                gain = effective_gain(gain)
                states.append(way(level, reads, gain, previous[index]))
        previous = states
        if number in taps:
            tapped[number] = states[-1]
    return list(previous), tapped
