"""True inversion: only the states at the two ends of a segment are kept.

The forward pass builds autograd's ordinary graph, but what its nodes would save is
dropped. Going back, a level that is asked for its saved tensors runs again; its update
gives both those tensors and the input state of its column,
``previous[l] = (c[l] - update) / gain[l]``, coarsest level first (RevCol,
arXiv 2212.11696, section 2.2). Gradients, parameters and hooks are thus autograd's own.
Rounding grows with every column inverted; the states at a segment's front are kept, so
the error is measured against them.
"""

from collections.abc import Collection, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmrev.reversible.column import Column, effective_gain, run_columns, run_level
from mmrev.reversible.recompute import Dropped
from mmrev.reversible.replay import (
    AutocastState,
    RandomState,
    Unchanged,
    frozen_buffers,
)


class Segment:
    """Consecutive columns between two kept states, for one forward pass.

    The graph's nodes hold the segment, which lives and dies with them; it must
    therefore hold neither a node nor a tensor that has a graph.

    Args:
        columns: the columns.
        errors: takes the relative L2 error of each state rebuilt at the front, as
            0-dim tensors; None measures nothing.
    """

    def __init__(self, columns: Sequence[Column], errors: list[Tensor] | None):
        self.columns = columns
        self.errors = errors
        self._needs: list[tuple[bool, ...]] = []
        self._random: list[RandomState] = []
        self._weights: list[Unchanged] = []
        # Output states by (column, level), as far as they are known; column -1 is the
        # one before the segment.
        self._states: dict[tuple[int, int], Tensor] = {}

    def __call__(
        self, x: Tensor, previous: Sequence[Tensor] | None, taps: Collection[int]
    ) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Run the columns; arguments and result as of `run_columns`."""
        self._x = x.detach()
        self._autocast = AutocastState.current(x.device)
        self._front = previous and [state.detach() for state in previous]
        states, tapped = run_columns(self.columns, x, previous, taps, self._run_level)
        self._back = [state.detach() for state in states]
        ends = {"the input of the columns": self._x}
        for name, kept in (("previous", self._front), ("returned", self._back)):
            ends |= {f"{name} state {i}": end for i, end in enumerate(kept or ())}
        self._ends = Unchanged("reverse", ends)
        return states, tapped

    def _run_level(
        self,
        column: Column,
        index: int,
        below: Tensor,
        previous: Sequence[Tensor] | None,
    ) -> Tensor:
        number, level = divmod(len(self._needs), len(column.levels))
        self._needs.append(tuple(t.requires_grad for t in (below, *(previous or ()))))
        random = RandomState(below.device)
        self._random.append(random)
        gain, module = {f"gains.{index}": column.gains[index]}, column.levels[index]
        self._weights.append(Unchanged("reverse", gain, module))
        find = partial(self._find, number, level)
        dropped = Dropped("reverse", find, to_the_end=True)
        with dropped.keeping():
            state = run_level(column, index, below, previous)
        random.forget_if_unused()
        return state

    def _find(self, number: int, level: int) -> None:
        self.rerun(number, level)
        # Nothing further back reads the state that left this level.
        self._states.pop((number, level), None)

    def state(self, number: int, level: int) -> Tensor:
        """The output state of a column; what no later pass has left is rebuilt."""
        if number < 0:
            return self._front[level]
        if number == len(self.columns) - 1:
            return self._back[level]
        if (number, level) not in self._states:
            # The loss does not reach the column after, as when only a tap is used.
            with torch.no_grad():
                self.rerun(number + 1, level)
        return self._states[number, level]

    def rerun(self, number: int, level: int) -> None:
        """Run a level again and rebuild the state that entered its column."""
        column = self.columns[number]
        place = number * len(column.levels) + level
        self._ends.check()
        modules = self._weights[place].check()
        below_needs, *previous_need = self._needs[place]
        gain = effective_gain(column.gains[level].detach())
        state = self.state(number, level)
        below = self.state(number, level - 1) if level else self._x
        previous = [None] * len(column.levels) if previous_need else None

        def read(index: int) -> None:
            leaf = self.state(number - 1, index).detach()
            previous[index] = leaf.requires_grad_(previous_need[index])

        def call(module: nn.Module, *inputs: Tensor) -> Tensor:
            update = module(*inputs)
            residue = state - update.detach()
            if previous is None:
                self._measure(residue, state)
                return update
            rebuilt = residue.div_(gain)
            if number:
                self._states[number - 1, level] = rebuilt
            else:
                self._measure(rebuilt.sub_(self._front[level]), self._front[level])
            read(level)
            return update

        for index in column.above[level]:
            read(index)
        with (
            self._random[place].replayed(),
            self._autocast(),
            frozen_buffers(modules),
        ):
            below = below.detach().requires_grad_(below_needs)
            run_level(column, level, below, previous, call)

    def _measure(self, error: Tensor, reference: Tensor) -> None:
        if self.errors is not None:
            reference = _norm(reference)
            tiny = torch.finfo(reference.dtype).tiny
            self.errors.append(_norm(error) / reference.clamp(min=tiny))


def _norm(state: Tensor) -> Tensor:
    # Of a large map it may be past fp16's range.
    wide = torch.promote_types(state.dtype, torch.float32)
    return torch.linalg.vector_norm(state, dtype=wide)
