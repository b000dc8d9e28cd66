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
    with torch.no_grad():
        floored = torch.where(gain < 0, gain.clamp(max=-floor), gain.clamp(min=floor))
        shift = floored - gain
    return gain + shift


def run_level(
    column: Column,
    index: int,
    below: Tensor,
    previous: Sequence[Tensor] | None,
    call: Callable[..., Tensor] = lambda level, *inputs: level(*inputs),
) -> Tensor:
    """Compute one state: the specification of what every memory mode computes.

    Args:
        column: the column.
        index: which level.
        below: the column's next finer state, or the network's input at level 0.
        previous: states of the column before, finest first; None in the first column.
        call: how the level is called.

    Returns:
        The state, in the gain's dtype: full precision under autocast.
    """
    level, gain = column.levels[index], column.gains[index]
    if previous is None:
        return call(level, below).to(gain.dtype)
    update = call(level, below, *(previous[i] for i in column.above[index]))
    return torch.addcmul(update.to(gain.dtype), effective_gain(gain), previous[index])


def run_columns(
    columns: Sequence[Column],
    x: Tensor,
    previous: Sequence[Tensor] | None = None,
    taps: Collection[int] = (),
    step: Callable[..., Tensor] = run_level,
) -> tuple[list[Tensor], dict[int, Tensor]]:
    """Run columns one after the other.

    Args:
        columns: the columns.
        x: the input that every column's finest level reads.
        previous: states of the column before, or None when ``columns[0]`` is first.
        taps: indices of columns whose coarsest state is also wanted.
        step: how a state is computed, as `run_level`.

    Returns:
        The last column's states, finest first, and each tapped column's coarsest state
        by index.
    """
    tapped = {}
    for number, column in enumerate(columns):
        states: list[Tensor] = []
        for index in range(len(column.levels)):
            below = states[-1] if states else x
            states.append(step(column, index, below, previous))
        previous = states
        if number in taps:
            tapped[number] = states[-1]
    return list(previous), tapped
