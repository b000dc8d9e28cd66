"""The cheapest memory modes of a backbone's stages that fit a budget, as measured."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from mmrev.measure.flops import count_flops
from mmrev.measure.memory import held_memory, peak_memory


@dataclass
class MemoryPlan:
    """Memory modes, and what a training step of the backbone takes in them.

    Attributes:
        modes: one a stage (of RevCol, a level), finest first.
        flops: multiply-adds of a step, what runs again included.
        kept: bytes that the backward pass finds.
        peak: bytes that a step allocates at its peak, beside weights and gradients;
            measured, None if it was not.
    """

    modes: list[str]
    flops: float
    kept: float
    peak: float | None = None


def plan_memory(
    backbone: nn.Module, shape: Sequence[int], budget_mb: float
) -> MemoryPlan:
    """Choose a mode for each stage: the least work whose measured peak fits.

    What a mode of one stage costs is measured with all others in the mode that keeps
    least. Operations and kept bytes of plans are predicted from sums of that; plans are
    measured, the one of least work first, until one fits. Operations, not times: every
    process of a training comes to the same plan. The backbone stays as it is, modes
    included: stand-ins take the gradients, copies the statistics.

    Args:
        backbone: has `memory`, `set_memory` and `memory_choices`.
        shape: of the images, (N, C, H, W).
        budget_mb: megabytes (1e6) that a training step of the backbone may allocate,
            beside weights and gradients.

    Raises:
        ValueError: if no plan fits; it names the least that is needed.
    """
    budget = budget_mb * 1e6
    with _stand_ins(backbone):
        trial = _Trial(backbone, shape)
        plans = sorted(
            _predicted(backbone, trial), key=lambda plan: (plan.flops, plan.kept)
        )
        # One of them takes least: with small maps, inverting takes more than it saves.
        small = [plan for plan in plans if set(plan.modes) == {"recompute"}]
        for plan in (min(plans, key=lambda plan: plan.kept), *small):
            plan.peak = trial.peak(plan.modes)
        for plan in plans:
            # Whatever is kept is there at the peak.
            if plan.peak is None and plan.kept <= budget:
                plan.peak = trial.peak(plan.modes)
            if plan.peak is not None and plan.peak <= budget:
                plan.kept = trial.kept(plan.modes)
                return plan
    least = min((plan for plan in plans if plan.peak), key=lambda plan: plan.peak)
    raise ValueError(
        f"{type(backbone).__name__}: a training step with images of {tuple(shape)} "
        f"takes at least {math.ceil(least.peak / 1e6)} MB, with memory={least.modes}; "
        f"got memory_budget_mb={budget_mb:g}. Raise the budget, or use smaller images "
        "or batches."
    )


def _predicted(backbone: nn.Module, trial: "_Trial") -> Iterator[MemoryPlan]:
    choices = backbone.memory_choices()
    base = tuple(modes[-1] for modes in choices)
    changes = {
        (stage, mode): (*base[:stage], mode, *base[stage + 1 :])
        for stage, modes in enumerate(choices)
        for mode in modes
    }
    trial.step(base)()  # what has no room for the least says so itself
    needed = {base, *changes.values()}
    kept = {modes: trial.kept(modes) for modes in needed}
    flops = {modes: trial.flops(modes) for modes in needed}
    for modes in itertools.product(*choices):
        single = [changes[change] for change in enumerate(modes)]
        yield MemoryPlan(
            list(modes),
            *(
                cost[base] + sum(cost[one] - cost[base] for one in single)
                for cost in (flops, kept)
            ),
        )


class _Trial:
    """Training steps of a backbone on an image of noise."""

    def __init__(self, backbone: nn.Module, shape: Sequence[int]):
        weight = next(backbone.parameters())
        self.backbone = backbone
        self.image = torch.randn(*shape, dtype=weight.dtype, device=weight.device)

    def kept(self, modes: Sequence[str]) -> float:
        """Bytes between the two passes; infinite if there are not so many."""
        self.backbone.set_memory(modes)
        return self._unless_full(held_memory, lambda: self.backbone(self.image))

    def peak(self, modes: Sequence[str]) -> float:
        """Bytes at the peak of a step; infinite if there are not so many."""
        return self._unless_full(peak_memory, self.step(modes))

    def flops(self, modes: Sequence[str]) -> float:
        """Operations of a step; infinite if its memory is not there."""
        return self._unless_full(lambda step, _: count_flops(step), self.step(modes))

    def step(self, modes: Sequence[str]) -> Callable[[], None]:
        """A training step in these modes."""

        @torch.enable_grad()
        def step() -> None:
            self.backbone.set_memory(modes)
            loss = sum(level.float().mean() for level in self.backbone(self.image))
            with torch.autocast(loss.device.type, enabled=False):
                loss.backward()

        return step

    def _unless_full(self, measure: Callable, call: Callable[[], object]) -> float:
        try:
            return measure(call, self.image.device)
        except torch.OutOfMemoryError:
            return math.inf


@contextmanager
def _stand_ins(backbone: nn.Module) -> Iterator[None]:
    """Let gradients and statistics go to others, and put modes and generators back.

    Not those of the parameters themselves: DistributedDataParallel watches these.
    """
    memory, device = backbone.memory, next(backbone.parameters()).device
    kept = [(m, dict(m._parameters), dict(m._buffers)) for m in backbone.modules()]
    devices = [] if device.type == "cpu" else [device]
    try:
        for module, parameters, buffers in kept:
            module._parameters.update(
                {n: p if p is None else _stand_in(p) for n, p in parameters.items()}
            )
            module._buffers.update(
                {n: b if b is None else b.clone() for n, b in buffers.items()}
            )
        with torch.random.fork_rng(devices, device_type=device.type):
            yield
    finally:
        for module, parameters, buffers in kept:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
        backbone.set_memory(memory)


def _stand_in(parameter: nn.Parameter) -> nn.Parameter:
    """The same memory; a gradient goes as soon as it is there."""
    twin = nn.Parameter(parameter.detach(), parameter.requires_grad)
    if twin.requires_grad:
        twin.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    return twin
