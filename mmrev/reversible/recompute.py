"""Exact recomputation: a module keeps its inputs and runs again in the backward pass.

As torch's non-reentrant checkpointing, at a lower price a tensor, which a network of
many small levels notices: parameters are not taken for activations, and the state of
the random generators is kept only where random numbers were drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from mmrev.reversible.replay import Replay, changed


class Dropped:
    """What the nodes of a piece of graph would save: dropped, and found again.

    Enter ``keeping(*inputs)`` around the piece's forward pass.

    Args:
        memory: the memory mode, for messages.
        name: of the module that runs in it, for messages.
        rerun: runs the piece again, on detached inputs, in the state of the first run.
        to_the_end: whether the rerun has to finish; otherwise it stops at the last
            tensor that is needed.
    """

    def __init__(
        self,
        memory: str,
        name: str,
        rerun: Callable[[], None],
        to_the_end: bool = False,
    ):
        self.memory, self.name = memory, name
        self.rerun, self.to_the_end = rerun, to_the_end
        self._count = 0
        self._found: dict[int, Tensor] = {}

    def keeping(self, *inputs: Tensor) -> saved_tensors_hooks:
        """The context in which only parameters are saved, if they are no inputs."""
        pack = partial(self._pack, set(map(id, inputs)))
        return saved_tensors_hooks(pack, self._unpack)

    def _pack(self, inputs: set[int], tensor: Tensor) -> tuple[Tensor, int] | int:
        if isinstance(tensor, nn.Parameter) and id(tensor) not in inputs:
            return tensor, tensor._version
        self._count += 1
        return self._count - 1

    def _unpack(self, packed: tuple[Tensor, int] | int) -> Tensor:
        if isinstance(packed, tuple):
            parameter, version = packed
            # A node that needs no other tensor runs nothing again that would notice.
            if parameter._version != version:
                raise changed(self.memory, "a parameter")
            return parameter
        if packed not in self._found:
            self._find()
        return self._found.pop(packed)

    def _find(self) -> None:
        tensors: list[Tensor] = []

        def collect(tensor: Tensor) -> None:
            if isinstance(tensor, nn.Parameter):
                return
            tensors.append(tensor.detach())
            if len(tensors) == self._count and not self.to_the_end:
                raise _NothingMoreNeeded

        try:
            with torch.enable_grad(), saved_tensors_hooks(collect, refuse):
                self.rerun()
        except _NothingMoreNeeded:
            pass
        if len(tensors) != self._count:
            raise RuntimeError(
                f"memory={self.memory!r}: {self.name} saved {self._count} tensors in "
                f"the forward pass and {len(tensors)} when it ran again for the "
                "backward pass; it must do the same each time. Use memory='store'."
            )
        self._found = dict(enumerate(tensors))


class _NothingMoreNeeded(Exception):  # noqa: N818  a signal, no error
    pass


def refuse(_: None = None) -> Tensor:
    """Say that nothing is found again during the forward pass."""
    raise RuntimeError(
        "A gradient was taken inside a module that runs again for the backward pass. "
        "Use memory='store'."
    )


class _Inputs:
    """What a module was called with, without the graph behind it, to call it again.

    A tensor that is given twice is one again: attention asks whether its key is its
    value. What is no tensor is handed on as it is.

    Args:
        inputs: by position.
        settings: by name.

    Attributes:
        tensors: those that are tensors, by name, each once.
    """

    def __init__(self, inputs: Sequence[Any], settings: Mapping[str, Any]):
        self.tensors: dict[str, Tensor] = {}
        self._needs: list[bool] = []
        self._count = len(inputs)
        self._others: dict[int | str, Any] = {}
        self._names: dict[int | str, str] = {}
        known: dict[int, str] = {}
        for place, value in (*enumerate(inputs), *settings.items()):
            if not isinstance(value, Tensor):
                self._others[place] = value
                continue
            name = known.setdefault(id(value), f"input {place}")
            self._names[place] = name
            if name not in self.tensors:
                self.tensors[name] = value.detach()
                self._needs.append(value.requires_grad)

    def call(self, module: Callable) -> None:
        """Call a module with the same, by new leaves of the graph."""
        tensors = (tensor.detach() for tensor in self.tensors.values())
        leaves = map(Tensor.requires_grad_, tensors, self._needs)
        found = dict(zip(self.tensors, leaves, strict=True))
        given = {place: found[name] for place, name in self._names.items()}
        given |= self._others
        inputs = [given.pop(place) for place in range(self._count)]
        module(*inputs, **given)


def recompute(module: nn.Module | MethodType, *inputs: Any, **settings: Any) -> Any:
    """Call a module, keeping only its inputs for the backward pass.

    Random numbers, autocast and buffers (BatchNorm statistics) are as in one ordinary
    call; gradients equal those of plain autograd. A call within a call keeps its own
    inputs, too.

    Args:
        module: what to call; or a method of a module, which may read all of that one.
        *inputs: its inputs, of which one at least is a tensor. A list of tensors is
            none: they get their gradients, but nobody notices that one has changed.
        **settings: inputs by name.

    Returns:
        What the module returns.

    Raises:
        RuntimeError: in the backward pass, when an input, a parameter or a buffer was
            changed in place since, or the module does not do the same again.
    """
    if not torch.is_grad_enabled():
        return module(*inputs, **settings)
    if torch.compiler.is_dynamo_compiling():  # it knows torch's way, and no hooks
        return checkpoint(module, *inputs, use_reentrant=False, **settings)
    if torch.compiler.is_compiling():  # torch.export
        return module(*inputs, **settings)
    owner = getattr(module, "__self__", module)
    kept = _Inputs(inputs, settings)
    replay = Replay("recompute", owner, kept.tensors)

    def rerun() -> None:
        with replay.again():
            kept.call(module)

    dropped = Dropped("recompute", type(owner).__name__, rerun)
    tensors = (one for one in (*inputs, *settings.values()) if isinstance(one, Tensor))
    with dropped.keeping(*tensors):
        result = module(*inputs, **settings)
    replay.forget_if_unused()
    return result
