"""Memory of a training step, phase by phase, of a model whose weights need not fit."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.profiler import record_function

from mmrev.measure.memory import traced

__all__ = ["Phase", "phases", "shared_weights"]

_MARK = "mmrev.phase"
# What initialisations by random numbers consist of.
_DRAWING = ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_")


@dataclass(frozen=True)
class Phase:
    """What a step takes from one call of a module, or one gradient, to the next.

    Attributes:
        name: what began it. Steps of the same model have the same phases at any size of
            the images, so that what one takes can be followed from size to size.
        peak: bytes at its highest point above those at the start of the step; gradients
            of parameters that were ready before do not count.
        gradients: their bytes.
    """

    name: str
    peak: int
    gradients: int


def phases(
    step: Callable[[], object], model: nn.Module, device: str | torch.device = "cpu"
) -> list[Phase]:
    """Measure a training step.

    Gradients of parameters are dropped as soon as they are ready; they are counted
    beside what else is there, as how much of them a device holds is settled by how
    many share them.

    Args:
        step: forward and backward pass of `model`; what it leaves in no gradient it may
            keep.
        model: whose calls begin phases.
        device: where it runs.
    """
    device = torch.device(device)
    meter = _Events() if device.type == "cpu" else _Allocator(device)
    names, ready = [""], [0]
    counted: set[int] = set()

    def mark(name: str, gradient: int = 0) -> None:
        meter.mark()
        names.append(name)
        ready.append(ready[-1] + gradient)

    def accumulated(parameter: Tensor) -> None:
        parameter.grad = None
        first = id(parameter) not in counted
        counted.add(id(parameter))
        mark("gradient", parameter.nbytes if first else 0)

    with ExitStack() as stack:
        for name, module in model.named_modules():
            for register, side in (
                (module.register_forward_pre_hook, "before"),
                (module.register_forward_hook, "after"),
            ):
                handle = register(lambda *_, n=f"{side} {name}": mark(n))
                stack.callback(handle.remove)
        for parameter in model.parameters():
            if parameter.requires_grad:
                handle = parameter.register_post_accumulate_grad_hook(accumulated)
                stack.callback(handle.remove)
        peaks = meter.peaks(step)
    return list(map(Phase, names, peaks, ready))


class _Events:
    """Peaks from the events of the CPU's allocator, between marks in its trace."""

    def mark(self) -> None:
        with record_function(_MARK):
            pass

    def peaks(self, step: Callable[[], object]) -> list[int]:
        held, peaks = 0, [0]
        for name, change in traced(step):
            held += change
            if name == _MARK:
                peaks.append(held)
            peaks[-1] = max(peaks[-1], held)
        return peaks


class _Allocator:
    """Peaks as a caching allocator counts them, asked for at every mark."""

    def __init__(self, device: torch.device):
        self.device, self.module = device, torch.get_device_module(device)

    def mark(self) -> None:
        self.found.append(self.module.max_memory_allocated(self.device) - self.start)
        self.module.reset_peak_memory_stats(self.device)

    def peaks(self, step: Callable[[], object]) -> list[int]:
        self.start, self.found = self.module.memory_allocated(self.device), []
        self.module.reset_peak_memory_stats(self.device)
        step()
        self.mark()
        return self.found


@contextmanager
def shared_weights() -> Iterator[None]:
    """Let parameters of modules built inside share memory with all that are alike.

    Parameters of one shape and name, in modules of one class, have the same values,
    those that the first one is given, and gradients of their own: enough to tell what a
    step takes, and little of it for a network of many equal blocks.
    """
    register, first, sharing = nn.Module.register_parameter, {}, _Sharing()

    def registered(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and id(parameter) not in sharing.known:
            key = type(self), name, parameter.shape, parameter.dtype
            sharing.known[id(parameter)] = parameter
            if key in first:
                parameter.data = first[key].data
                sharing.later.add(id(parameter))
            else:
                first[key] = parameter
        register(self, name, parameter)

    nn.Module.register_parameter = registered
    try:
        with sharing:
            yield
    finally:
        nn.Module.register_parameter = register


class _Sharing(TorchFunctionMode):
    """Draws no values for a parameter that has them from another; that takes long.

    Attributes:
        known: parameters by id, so that no other gets the same one.
        later: ids of those with values from another.
    """

    def __init__(self):
        super().__init__()
        self.known: dict[int, nn.Parameter] = {}
        self.later: set[int] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call a function of torch, unless it would draw what is shared."""
        drawn = getattr(func, "__name__", "") in _DRAWING
        if drawn and args and id(args[0]) in self.later:
            return args[0]
        return func(*args, **(kwargs or {}))
