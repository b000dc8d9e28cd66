"""What a training step computes, bit for bit."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmrev.reversible import run_chain, run_columns
from mmrev.reversible.correction import INTEGERS
from mmrev.reversible.coupling import Couple


def loss_of(outputs: Sequence[Tensor]) -> Tensor:
    """Unlike weights, so that no two gradients are equal by symmetry."""
    return sum((i + 1) * out.float().square().mean() for i, out in enumerate(outputs))


def columns_step(columns: nn.Module, x: Tensor, previous=None, taps=(1,), **settings):
    """A step of columns, as a function of how states are computed."""

    def forward(couple: Couple, x: Tensor) -> list[Tensor]:
        states, tapped = run_columns(columns, x, previous, taps, couple)
        return [*states, *tapped.values()]

    return step_of(forward, columns, x, **settings)


def chain_step(blocks: nn.Module, x: Tensor, coefficients: Tensor, **settings):
    """A step of a chain, as a function of how states are computed."""

    def forward(couple: Couple, x: Tensor) -> tuple[Tensor, Tensor]:
        return run_chain(blocks, x, coefficients, couple)

    return step_of(forward, blocks, x, **settings)


def step_of(
    forward: Callable[[Couple, Tensor], Sequence[Tensor]],
    module: nn.Module,
    x: Tensor,
    loss: Callable[[Sequence[Tensor]], Tensor] = loss_of,
    autocast: torch.dtype | None = None,
) -> Callable[[Couple], list[Tensor | None]]:
    """A function that gives outputs, gradients of x and parameters, generator state."""

    def step(couple: Couple) -> list[Tensor | None]:
        module.zero_grad()
        leaf = x.detach().requires_grad_(x.requires_grad)
        torch.manual_seed(7)
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            outputs = forward(couple, leaf)
            value = loss(outputs)
        if value.requires_grad:
            value.backward()
        gradients = [leaf.grad, *(p.grad for p in module.parameters())]
        return [*(out.detach() for out in outputs), *gradients, torch.get_rng_state()]

    return step


def assert_same_bits(
    actual: Sequence[Tensor | None], expected: Sequence[Tensor | None]
) -> None:
    """Every tensor is there, of one dtype and layout, and equal; NaN equals NaN."""
    for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert (one is None) == (other is None), index
        if one is not None:
            assert one.dtype == other.dtype
            assert one.stride() == other.stride()
            assert torch.equal(bits(one), bits(other)), index


def bits(tensor: Tensor) -> Tensor:
    """The elements as integers."""
    return tensor.view(INTEGERS.get(tensor.element_size(), tensor.dtype))
