"""True inversion: only the states at a segment's two ends are kept.

Going back, each column's input states are rebuilt from its output states,
``previous[l] = (c[l] - level_l(below, *above)) / gain[l]``, coarsest level first, in
the same pass that computes the gradients (RevCol, arXiv 2212.11696, section 2.2).
Rounding grows by about 1 / gain for every column inverted; the states at the front
end are kept, so the error is measured against them.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmrev.reversible.column import Column, effective_gain, run_columns
from mmrev.reversible.replay import AutocastState, RandomTape, frozen_buffers


@dataclass
class Segment:
    """Consecutive columns between two kept states.

    Attributes:
        columns: the columns.
        is_first: whether ``columns[0]`` is the network's first column.
        taps: indices of columns whose coarsest state is a further output.
        measure: whether the backward pass appends reconstruction errors to `errors`.
        errors: relative L2 error of each state rebuilt at the front end, 0-dim tensors.
        parameters: the trainable parameters, each once.
    """

    columns: Sequence[Column]
    is_first: bool
    taps: Sequence[int]
    measure: bool
    errors: list[Tensor]
    tape: RandomTape = field(init=False)
    autocast: AutocastState = field(init=False)
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self):
        found = itertools.chain.from_iterable(c.parameters() for c in self.columns)
        self.parameters = list(dict.fromkeys(p for p in found if p.requires_grad))

    @property
    def num_levels(self) -> int:
        """Levels of each column."""
        return len(self.columns[0].levels)

    def __call__(
        self, x: Tensor, previous: Sequence[Tensor] | None
    ) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Run the segment; as `run_columns`, differentiable once."""
        self.tape = RandomTape(x.device)
        self.autocast = AutocastState.current(x.device)
        outputs = _Reverse.apply(self, x, *(previous or ()), *self.parameters)
        states = list(outputs[: self.num_levels])
        return states, dict(zip(self.taps, outputs[self.num_levels :], strict=True))


class _Reverse(torch.autograd.Function):
    """Parameters are inputs, so that every user of the graph (DDP, hooks) sees them."""

    @staticmethod
    def forward(ctx, segment: Segment, x: Tensor, *tensors: Tensor):
        split = 0 if segment.is_first else segment.num_levels
        previous, parameters = tensors[:split], tensors[split:]

        def call(level: nn.Module, *inputs: Tensor) -> Tensor:
            segment.tape.record()
            return level(*inputs)

        with segment.autocast():
            states, tapped = run_columns(
                segment.columns, x, previous or None, segment.taps, call
            )
        ctx.segment = segment
        ctx.set_materialize_grads(False)
        # The parameters only for autograd's check that nobody changed them meanwhile.
        ctx.save_for_backward(x, *previous, *states, *parameters)
        return (*states, *(tapped[index] for index in segment.taps))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):
        segment: Segment = ctx.segment
        x, *saved = ctx.saved_tensors
        split = 0 if segment.is_first else segment.num_levels
        front, states = saved[:split], saved[split : split + segment.num_levels]
        pass_ = _BackwardPass(segment, x, ctx.needs_input_grad[1])
        state_grads = list(grads[: segment.num_levels])
        tap_grads = dict(zip(segment.taps, grads[segment.num_levels :], strict=True))
        # The kept states need no gradient when the columns before are frozen.
        front_needs = ctx.needs_input_grad[2 : 2 + split]
        with segment.tape.untouched():
            for index in reversed(range(len(segment.columns))):
                state_grads[-1] = _add(state_grads[-1], tap_grads.get(index))
                kept = (front or None) if index == 0 else None
                needs = front_needs if index == 0 else [True] * segment.num_levels
                states, state_grads = pass_.undo(
                    index, states, state_grads, kept, needs
                )
        parameter_grads = [pass_.parameter_grads.get(p) for p in segment.parameters]
        return None, pass_.x_grad, *state_grads[:split], *parameter_grads


class _BackwardPass:
    """Gradients gathered while a segment is walked from its last column to its first.

    Attributes:
        x_grad: gradient of the input that all columns read.
        parameter_grads: gradient of each parameter met.
    """

    def __init__(self, segment: Segment, x: Tensor, x_needs_grad: bool):
        self.segment = segment
        self.x = x
        self.x_needs_grad = x_needs_grad
        self.x_grad: Tensor | None = None
        self.parameter_grads: dict[Tensor, Tensor] = {}

    def undo(
        self,
        index: int,
        states: Sequence[Tensor],
        grads: Sequence[Tensor | None],
        kept: Sequence[Tensor] | None,
        needs: Sequence[bool],
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Undo one column.

        Args:
            index: the column's place in the segment.
            states: its output states.
            grads: their gradients.
            kept: the true input states, where they were kept.
            needs: for each input state, whether its gradient is wanted.

        Returns:
            Its input states (none for the network's first column) and their gradients.
        """
        column, num_levels = self.segment.columns[index], self.segment.num_levels
        is_first = self.segment.is_first and index == 0
        previous = [None] * num_levels if kept is None else list(kept)
        grads, previous_grads = list(grads), [None] * num_levels
        for l in reversed(range(num_levels)):  # noqa: E741
            above = () if is_first else column.above[l]
            inputs = [states[l - 1] if l else self.x, *(previous[i] for i in above)]
            wanted = [l > 0 or self.x_needs_grad, *(needs[i] for i in above)]
            rebuild = kept is None and not is_first
            check = self.segment.measure and index == 0
            if grads[l] is None and not rebuild and not check:
                continue
            update, input_grads = self._rerun(
                index, l, inputs, wanted, grads[l]
            )
            if l:
                grads[l - 1] = _add(grads[l - 1], input_grads[0])
            else:
                self.x_grad = _add(self.x_grad, input_grads[0])
            for i, grad in zip(above, input_grads[1:], strict=True):
                previous_grads[i] = _add(previous_grads[i], grad)

            residue = states[l] - update
            if is_first:
                if check:
                    self._measure(residue, states[l])
                continue
            gain = effective_gain(column.gains[l].detach())
            if rebuild:
                previous[l] = residue.div_(gain)
            elif check:
                self._measure(residue.div_(gain).sub_(previous[l]), previous[l])
            if grads[l] is None:
                continue
            if column.gains[l].requires_grad:
                grad = (grads[l] * previous[l]).sum_to_size(gain.shape)
                self._gather(column.gains[l], grad)
            if needs[l]:
                previous_grads[l] = _add(previous_grads[l], gain * grads[l])
            grads[l] = None  # freed: nothing below reads it
        return previous, previous_grads

    def _rerun(
        self,
        index: int,
        l: int,  # noqa: E741
        inputs: Sequence[Tensor],
        wanted: Sequence[bool],
        grad: Tensor | None,
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Run a level again; return its output and the gradients of its inputs."""
        segment = self.segment
        level = segment.columns[index].levels[l]
        inputs = [
            tensor.detach().requires_grad_(need)
            for tensor, need in zip(inputs, wanted, strict=True)
        ]
        segment.tape.rewind(index * segment.num_levels + l)
        with (
            torch.set_grad_enabled(grad is not None),
            segment.autocast(),
            frozen_buffers(level),
        ):
            update = level(*inputs)
        input_grads: list[Tensor | None] = [None] * len(inputs)
        if update.requires_grad:
            parameters = [p for p in level.parameters() if p.requires_grad]
            leaves = [tensor for tensor in inputs if tensor.requires_grad]
            found = iter(
                torch.autograd.grad(
                    update,
                    leaves + parameters,
                    grad.to(update.dtype),
                    allow_unused=True,
                )
            )
            input_grads = [next(found) if t.requires_grad else None for t in inputs]
            for parameter, parameter_grad in zip(parameters, found, strict=True):
                self._gather(parameter, parameter_grad)
        return update.detach(), input_grads

    def _gather(self, parameter: Tensor, grad: Tensor | None) -> None:
        total = _add(self.parameter_grads.get(parameter), grad)
        if total is not None:
            self.parameter_grads[parameter] = total

    def _measure(self, error: Tensor, reference: Tensor) -> None:
        tiny = torch.finfo(reference.dtype).tiny
        self.segment.errors.append(error.norm() / reference.norm().clamp(min=tiny))


def _add(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right
