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
        levels: one module a level, in the order in which they run: finest first, or
            coarsest first, called as ``level(below, *above)``. ``below`` is this
            column's state before (the network's input ``x`` at the first level, or
            nothing if there is none); the first column is called without ``above``.
        above: for each level, the levels of the previous column it reads. All must run
            later than itself: that is what makes the column invertible.
        gains: one parameter a level, broadcastable to the state of that level. The
            first column's are never read, but for their dtype.
    """

    levels: nn.ModuleList
    above: Sequence[Sequence[int]]
    gains: nn.ParameterList


def effective_gains(gains: Sequence[Tensor], floor: float = GAIN_FLOOR) -> list[Tensor]:
    """Gains with ``|gain| >= floor``, sign kept, an exact 0 counting as positive.

    The gradients pass unchanged, so a gain that has reached the floor can leave it.
    They are so small that a GPU takes as long for each as for all at once.

    Args:
        gains: of any shapes and one dtype.
        floor: above 0.
    """
    if not gains:
        return []
    with torch.no_grad():
        flat = torch.cat([gain.flatten() for gain in gains])
        floored = torch.where(flat < 0, flat.clamp(max=-floor), flat.clamp(min=floor))
        shifts = (floored - flat).split([gain.numel() for gain in gains])
    return [
        gain + shift.view_as(gain) for gain, shift in zip(gains, shifts, strict=True)
    ]


def run_columns(
    columns: Sequence[Column],
    x: Tensor | None,
    previous: Sequence[Tensor] | None = None,
    taps: Collection[int] = (),
    couples: Couple | Sequence[Couple] = couple,
) -> tuple[list[Tensor], dict[int, Tensor]]:
    """Run columns one after the other.

    Args:
        columns: the columns.
        x: the input that every column's first level reads; None if there is none.
        previous: states of the column before, or None when ``columns[0]`` is first.
        taps: indices of columns whose last state is also wanted.
        couples: how states are computed, one way or one a level; see `in_mode`.

    Returns:
        The last column's states in the order of its levels, and each tapped column's
        last state by index.
    """
    tapped = {}
    follow = columns[1:] if previous is None else columns
    gains = iter(effective_gains([gain for column in follow for gain in column.gains]))
    for number, column in enumerate(columns):
        states: list[Tensor] = []
        for index, (level, gain) in enumerate(
            zip(column.levels, column.gains, strict=True)
        ):
            way = couples if callable(couples) else couples[index]
            below = states[-1] if states else x
            reads = () if below is None else (below,)
            if previous is None:
                states.append(way(level, reads, gain, None))
            else:
                reads += tuple(previous[i] for i in column.above[index])
                states.append(way(level, reads, next(gains), previous[index]))
        previous = states
        if number in taps:
            tapped[number] = states[-1]
    return list(previous), tapped
