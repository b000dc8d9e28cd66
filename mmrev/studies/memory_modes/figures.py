"""Bytes, seconds, gradients and bits of the memory modes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmrev.measure.costs import Cost, paired_costs
from mmrev.measure.training_step import training_step
from mmrev.models.backbones.base import Backbone
from mmrev.reversible import coupling, run_chain, run_columns
from mmrev.reversible.correction import Correction
from mmrev.studies.memory_modes.networks import DTYPES, Case, use_memory

MEBIBYTE = 2**20
AGAIN = "store, again"
"""What a device does not repeat shows here."""


@dataclass(frozen=True)
class Difference:
    """Of gradients from those of 'store'.

    Attributes:
        tensors: how many were compared: of every parameter, and of the image.
        unequal: how many of them are not equal, bit for bit.
        error: length of the difference of all, over their length.
    """

    tensors: int
    unequal: int
    error: float


@dataclass(frozen=True)
class Bits:
    """What reversal takes for the states that it can rebuild.

    Attributes:
        correction: bits an element that corrections take, on average.
        most: of the state whose correction takes most.
        taken: bytes of all, over those of the states; where a correction does not
            pay, its state is kept instead.
        kept: share of such states.
    """

    correction: float
    most: float
    taken: float
    kept: float


@dataclass(frozen=True)
class Growth:
    """Costs over depth.

    Attributes:
        case: the network.
        states: bytes of the states of one more column or block.
        costs: by mode and depth.
    """

    case: Case
    states: int
    costs: Mapping[str, Mapping[int, Cost]]

    def slopes(self, mode: str) -> dict[int, float]:
        """Bytes that a further column or block costs, up to each depth."""
        return {
            depth: (cost.peak - before.peak) / (depth - shallower)
            for (shallower, before), (depth, cost) in pairwise(self.costs[mode].items())
        }


def growth(case: Case, depths: Sequence[int], repeats: int) -> Growth:
    """Measure a network of several depths, growing."""
    found: dict[str, dict[int, Cost]] = {mode: {} for mode in case.modes}
    for depth in depths:
        model = case.at(depth).build()
        for mode, cost in costs(case, model, repeats).items():
            found[mode][depth] = cost
    return Growth(case, state_bytes(case, model), found)


def costs(case: Case, model: Backbone, repeats: int) -> dict[str, Cost]:
    """Measure a training step in every mode, the modes in turn within one run."""
    step = training_step(model, case.image(), DTYPES[case.dtype])

    def step_in(mode: str) -> None:
        use_memory(model, mode)
        step()

    steps = {mode: partial(step_in, mode) for mode in case.modes}
    return paired_costs(steps, repeats, case.device)


def state_bytes(case: Case, model: Backbone) -> int:
    """Bytes of the states of one more column, or of one more block of stage 3."""
    with torch.no_grad(), case.autocast():
        levels = model(case.image())
    if case.is_columns:
        return sum(level.nbytes for level in levels)
    links = model.links(model.stages[2][-1]) if case.coupling else [None]
    return len(links) * levels[2].nbytes


def differences(case: Case, model: Backbone) -> dict[str, Difference]:
    """Compare the gradients of every mode with those of 'store'."""
    expected = _gradients(case, model, "store")
    others = {AGAIN: "store", **{mode: mode for mode in case.modes[1:]}}
    return {
        name: _difference(_gradients(case, model, mode), expected)
        for name, mode in others.items()
    }


def _gradients(case: Case, model: Backbone, mode: str) -> dict[str, Tensor]:
    use_memory(model, mode)
    model.zero_grad(set_to_none=True)
    image = case.image().requires_grad_()
    with case.autocast():
        levels = model(image)
    sum(level.float().square().mean() for level in levels).backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    return {"image": image.grad, **{k: g for k, g in found.items() if g is not None}}


def _difference(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> Difference:
    pairs = [(found[name], one) for name, one in expected.items() if name in found]
    missing = len(found.keys() ^ expected.keys())
    unequal = sum(not torch.equal(*pair) for pair in pairs)
    error = sum((one.double() - other).square().sum() for one, other in pairs)
    length = sum(one.double().square().sum() for one in expected.values())
    return Difference(
        tensors=len(expected),
        unequal=unequal + missing,
        error=(error / length).sqrt().item(),
    )


class Meter:
    """In the place of `mmrev.reversible.couple`: what corrections would take.

    Attributes:
        sizes: of each state that could be rebuilt, its elements, its bytes, those of
            its correction, and what is kept of the two.
    """

    def __init__(self):
        self.sizes: list[tuple[int, int, int, int]] = []
        self._states: list[Tensor] = []

    def __call__(
        self,
        module: nn.Module,
        reads: Sequence[Tensor],
        gain: Tensor,
        old: Tensor | None,
        shortcut: Tensor | None = None,
    ) -> Tensor:
        """Compute a state."""
        update = coupling.update(module(*reads), reads, shortcut)
        state = coupling.forward(update, gain, old)
        # What a run begins with is kept anyway.
        if any(old is one for one in self._states):
            correction = Correction(old, state, update, gain)
            size = correction.finish()
            kept = size if correction.pays() else old.nbytes
            self.sizes.append((old.numel(), old.nbytes, size, kept))
        self._states.append(state)
        return state


@torch.no_grad()
def bits(case: Case, model: Backbone, gain: float) -> Bits | None:
    """Measure the corrections of a network at a gain, or at ``b`` and ``a = 1 - b``.

    None if every chain is too short for a state to be rebuilt.
    """
    meter = Meter()
    if case.is_columns:
        for parameter in (one for column in model.columns for one in column.gains):
            parameter.fill_(gain)
    else:
        model.coefficients.copy_(torch.tensor([1 - gain, gain]))
    last_level(case, model, meter)
    if not meter.sizes:
        return None
    elements, states, corrections, taken = map(sum, zip(*meter.sizes, strict=True))
    return Bits(
        correction=8 * corrections / elements,
        most=max(8 * own / count for count, _, own, _ in meter.sizes),
        taken=taken / states,
        kept=sum(one == state for _, state, _, one in meter.sizes) / len(meter.sizes),
    )


def last_level(case: Case, model: Backbone, couple: coupling.Couple) -> Tensor:
    """What the backbone computes, each of its states by `couple`."""
    with case.autocast():
        if case.is_columns:
            x = model.embed(case.image())
            return run_columns(model.columns, x, couples=couple)[0][-1]
        x = model.stem(case.image())
        for stage in model.stages:
            for module in stage:
                if not model.links(module):
                    x = module(x)
            x, other = run_chain(model.chain(stage), x, model.coefficients, couple)
            if model.coupling == "two-stream":
                x = torch.lerp(x, other, 0.5)
        return model.level(x)
