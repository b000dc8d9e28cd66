"""What a second run of a module must see again: weights, random numbers, autocast."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

# By name, an object and its version: what was changed in place has another one.
State = Iterator[tuple[str, object, int]]


def state_of(module: nn.Module) -> State:
    """Modes, parameters and buffers that a call of a module may read."""
    for path, owner in module.named_modules():
        where = f"{path}." if path else ""
        yield f"{where}training", None, owner.training
        yield from versions(owner._parameters, where)
        # In training a norm changes its running statistics, and reads none.
        if not (owner.training and isinstance(owner, _NormBase)):
            yield from versions(owner._buffers, where)


def versions(tensors: Mapping[str, Tensor | None], prefix: str = "") -> State:
    """Tensors, by name, with their versions."""
    for name, tensor in tensors.items():
        if tensor is not None:
            yield f"{prefix}{name}", tensor, tensor._version


class Unchanged:
    """Refuses a backward pass after a change of what its second run reads.

    As autograd does for the tensors that it keeps.

    Args:
        memory: the memory mode, for the message.
        state: gives the state as it is.
    """

    def __init__(self, memory: str, state: Callable[[], State]):
        self._memory, self._state = memory, state
        self._then = list(state())

    def check(self) -> None:
        """Compare with the state at the time of making this object.

        Raises:
            RuntimeError: if something was replaced or changed in place.
        """
        for (name, one, before), (_, other, now) in zip(
            self._then, self._state(), strict=False
        ):
            if one is not other or before != now:
                raise changed(self._memory, name)


def changed(memory: str, name: str) -> RuntimeError:
    """The error for what was changed between the forward and the backward pass."""
    return RuntimeError(
        f"memory={memory!r}: {name} was replaced or changed in place after the forward "
        "pass, which the backward pass repeats. Change a copy, call backward() before "
        "a step of the optimizer, or use memory='store'."
    )


class RandomState:
    """The state of the random generators at the time of making this object.

    Args:
        device: the accelerator whose generator counts beside the CPU's.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._states = self._now()

    def _now(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type != "cpu":
            module = torch.get_device_module(self.device)
            states.append(module.get_rng_state(self.device))
        return states

    def forget_if_unused(self) -> None:
        """Keep nothing if no random number was drawn since."""
        if all(map(torch.equal, self._states, self._now())):
            self._states = []

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Set the generators to this state; put them back on leaving."""
        if not self._states:
            yield
            return
        other = [] if self.device.type == "cpu" else [self.device]
        with torch.random.fork_rng(other, device_type=self.device.type):
            cpu, *device = self._states
            torch.set_rng_state(cpu)
            if device:
                module = torch.get_device_module(self.device)
                module.set_rng_state(device[0], self.device)
            yield


@dataclass(frozen=True)
class AutocastState:
    """The autocast setting of one device type."""

    device_type: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def current(cls, device: torch.device) -> "AutocastState":
        """The setting in force."""
        return cls(
            device.type,
            torch.is_autocast_enabled(device.type),
            torch.get_autocast_dtype(device.type),
        )

    def __call__(self) -> torch.autocast:
        """A context that restores the setting.

        It never caches weight casts: a cast made without a graph must not be found by
        a later pass that needs one.
        """
        return torch.autocast(
            self.device_type, self.dtype, self.enabled, cache_enabled=False
        )


@contextmanager
def _buffers_put_back(modules: list[nn.Module]) -> Iterator[None]:
    kept = [(module, dict(module._buffers)) for module in modules]
    try:
        for module, buffers in kept:
            module._buffers.update(
                {name: b if b is None else b.clone() for name, b in buffers.items()}
            )
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)


def frozen_buffers(module: nn.Module):
    """A context in which a second run updates copies of the buffers.

    Without it, BatchNorm would count every batch twice.
    """
    owners = [m for m in module.modules() if m._buffers]
    return _buffers_put_back(owners) if owners else nullcontext()
