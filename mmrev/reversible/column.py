"""The column protocol, and the plain loop that specifies what every mode computes.

Source: RevCol, arXiv 2212.11696, section 2.1 (equations 2 and 3):
``c[l] = gain[l] * previous[l] + level_l(below, *above)``.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

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
            first column's are never read.
    """

    levels: nn.ModuleList
    above: Sequence[Sequence[int]]
    gains: nn.ParameterList

    def parameters(self) -> Sequence[nn.Parameter]:
        """All parameters, as of any module."""


def effective_gain(gain: Tensor, floor: float = GAIN_FLOOR) -> Tensor:
    """The gain with ``|gain| >= floor``, sign kept, an exact 0 counting as positive.

    The gradient passes unchanged, so a gain that has reached the floor can leave it.
    """
    floored = torch.where(gain < 0, gain.clamp(max=-floor), gain.clamp(min=floor))
    return gain + (floored - gain).detach()


def run_column(
    column: Column,
    x: Tensor,
    previous: Sequence[Tensor] | None,
    call: Callable[..., Tensor],
) -> list[Tensor]:
    """Run one column. See `run_columns`; ``previous`` is None in the first column."""
    states: list[Tensor] = []
    for index, (level, gain) in enumerate(
        zip(column.levels, column.gains, strict=True)
    ):
        below = states[-1] if states else x
        if previous is None:
            states.append(call(level, below).to(gain.dtype))
            continue
        update = call(level, below, *(previous[i] for i in column.above[index]))
        # A tensor of the gain's dtype: states stay in full precision under autocast.
        states.append(
            torch.addcmul(update.to(gain.dtype), effective_gain(gain), previous[index])
        )
    return states


def run_columns(
    columns: Sequence[Column],
    x: Tensor,
    previous: Sequence[Tensor] | None = None,
    taps: Collection[int] = (),
    call: Callable[..., Tensor] = lambda level, *inputs: level(*inputs),
) -> tuple[list[Tensor], dict[int, Tensor]]:
    """Run the columns one after the other: the specification of every memory mode.

    Args:
        columns: the columns to run.
        x: the input that every column's finest level reads.
        previous: states of the column before, or None when ``columns[0]`` is first.
        taps: indices of columns whose coarsest state is also wanted.
        call: how a level is called.

    Returns:
        The last column's states, finest first, in the gains' dtype, and the tapped
        column's coarsest state by column index.
    """
    states, tapped = previous, {}
    for index, column in enumerate(columns):
        states = run_column(column, x, states, call)
        if index in taps:
            tapped[index] = states[-1]
    return list(states), tapped
