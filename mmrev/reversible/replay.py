"""What a second run of a module must see again: weights, random numbers, autocast."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class Unchanged:
    """Refuses a backward pass after a change of what its second run reads.

    As autograd does for the tensors that it keeps: what was replaced is another object,
    what was changed in place has another version. A network of many small levels looks
    twice at each of them in every step, so that names are only made for the message.

    Args:
        memory: the memory mode, for the message.
        tensors: by name.
        module: whose modes, parameters and buffers are read, too.
    """

    def __init__(
        self,
        memory: str,
        tensors: Mapping[str, Tensor],
        module: nn.Module | None = None,
    ):
        self._memory, self._tensors, self._module = memory, tensors, module
        self._then, self._alive = self._state(self._modules())

    def check(self) -> list[nn.Module]:
        """Compare with the state at the time of making this object.

        Returns:
            The module and those in it, as they are now.

        Raises:
            RuntimeError: if something was replaced or changed in place.
        """
        modules = self._modules()
        now, _ = self._state(modules)
        both = min(len(self._then), len(now))
        if self._then[:both] != now[:both]:
            pairs = zip(self._names(), self._then, now, strict=False)
            raise changed(
                self._memory, next(name for name, one, other in pairs if one != other)
            )
        return list(modules)

    def _modules(self) -> dict[nn.Module, bool]:
        """The module and those in it, each with whether it is sharded."""
        found: dict[nn.Module, bool] = {}
        if self._module is not None:
            _collect(self._module, found)
        return found

    def _state(self, modules: Mapping[nn.Module, bool]) -> tuple[list, list[Tensor]]:
        """Modes, and the identity and version of tensors; and these tensors.

        They have to be kept alive, or another tensor could take an identity.
        """
        state, tensors = [], list(self._tensors.values())
        for tensor in tensors:
            state += (id(tensor), tensor._version)
        for owner, sharded in modules.items():
            state.append(owner.training)
            for group in _read_by(owner, sharded):
                for tensor in group.values():
                    if tensor is not None:
                        state += (id(tensor), tensor._version)
                        tensors.append(tensor)
        return state, tensors

    def _names(self) -> Iterator[str]:
        """What each number of the state belongs to."""
        for name in self._tensors:
            yield from (name, name)
        if self._module is None:
            return
        modules = self._modules()
        for path, owner in self._module.named_modules():
            where = f"{path}." if path else ""
            yield f"{where}training"
            for group in _read_by(owner, modules[owner]):
                for name, tensor in group.items():
                    if tensor is not None:
                        yield from (f"{where}{name}", f"{where}{name}")


def _collect(
    module: nn.Module, found: dict[nn.Module, bool], sharded: bool = False
) -> None:
    """Find what `nn.Module.modules` finds, in its order, without making names.

    Args:
        module: where to begin.
        found: receives the modules, each with whether it is sharded.
        sharded: whether the module around is.
    """
    # What `fully_shard` makes of a class, asked for without importing it.
    sharded = sharded or hasattr(type(module), "unshard")
    found[module] = sharded
    for child in module._modules.values():
        if child is not None and child not in found:
            _collect(child, found, sharded)


def _read_by(
    owner: nn.Module, sharded: bool
) -> tuple[Mapping[str, Tensor | None], ...]:
    """A module's own parameters and buffers, as far as a call may read them.

    Not the parameters of one that is sharded: they are others while they are gathered,
    and autograd itself could not tell that they have changed.
    """
    # In training a norm changes its running statistics, and reads none.
    statistics = owner.training and isinstance(owner, _NormBase)
    groups = ({} if sharded else owner._parameters), owner._buffers
    return groups[:1] if statistics else groups


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


class Replay:
    """The state in which a module is about to be called, to call it again in it.

    Args:
        memory: the memory mode, for messages.
        module: the module.
        tensors: what else must not change, by name; the first tells the device.
    """

    def __init__(self, memory: str, module: nn.Module, tensors: Mapping[str, Tensor]):
        device = next(iter(tensors.values())).device
        self._unchanged = Unchanged(memory, tensors, module)
        self._autocast = AutocastState.current(device)
        self._random = RandomState(device)
        self.forget_if_unused = self._random.forget_if_unused

    @contextmanager
    def again(self) -> Iterator[None]:
        """That state; buffers are copies: BatchNorm would count every batch twice.

        Raises:
            RuntimeError: if something was replaced or changed in place.
        """
        modules = self._unchanged.check()
        with self._random.replayed(), self._autocast(), frozen_buffers(modules):
            yield


@contextmanager
def frozen_buffers(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let a second run update copies of the buffers.

    Without it, BatchNorm would count every batch twice.

    Args:
        modules: all that run, those within another one, too.
    """
    kept = [(module, dict(module._buffers)) for module in modules if module._buffers]
    try:
        for module, buffers in kept:
            module._buffers.update(
                {name: b if b is None else b.clone() for name, b in buffers.items()}
            )
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)
