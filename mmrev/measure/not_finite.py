"""Where in a training step the first number arises that is not finite."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

__all__ = ["Watch", "local"]


class Watch:
    """Follows one training step of a model until a number is not finite.

    Every value that a module reads or returns is looked at, which waits for a GPU each
    time: for a step that is repeated because it went wrong.

    Args:
        model: whose step it is.

    Attributes:
        found: The first place, for a message; None while all is finite.
    """

    def __init__(self, model: nn.Module):
        self.found: str | None = None
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        # From the outermost to the innermost, and whether what it read was finite.
        self._running: list[tuple[nn.Module, bool]] = []
        # The innermost module that each node of the graph was made in; they are kept
        # alive by it, or another node could take an identity.
        self._makers: dict[Node, nn.Module] = {}

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Follow what the model computes inside."""
        handles = []
        for module in self._names:
            enter, leave = self._enter, self._leave
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def backward(self, loss: Tensor) -> None:
        """Follow the gradients of a finite loss that was computed in `forward`.

        They are added to those of the parameters.
        """
        self.found = None  # an infinity of the forward pass was meant, as in a mask
        self._claim([loss], self._model)
        passed = self._passed
        handles = [node.register_hook(partial(passed, node)) for node in self._makers]
        try:
            loss.backward()
        finally:
            for handle in handles:  # those of parameters outlive the step
                handle.remove()

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        read = [*_tensors(args), *_tensors(kwargs)]
        if self._running:
            self._claim(read, self._running[-1][0])
        self._running.append((module, _finite(read)))

    def _leave(self, module: nn.Module, args: tuple, output: Any) -> None:
        _, sound = self._running.pop()
        returned = list(_tensors(output))
        self._claim(returned, module)
        if self.found is None and not _finite(returned):
            self.found = self._made_by(module) if sound else self._read_by(module)

    def _made_by(self, module: nn.Module) -> str:
        for name, parameter in module.named_parameters(recurse=False):
            if not _finite(parameter):
                return f"{self._name(module)}, whose {name} is not finite itself"
        return self._name(module)

    def _read_by(self, module: nn.Module) -> str:
        """Who made what a module read: the code around it, or nobody in the model."""
        for outer, sound in reversed(self._running):
            if sound:
                return f"the code of {self._name(outer)} before {self._name(module)}"
        return "what the model was given"

    def _passed(self, node: Node, left: tuple, arrived: tuple) -> None:
        if self.found is not None:
            return
        place = self._name(self._makers[node])
        if not _finite(arrived):
            self.found = f"the sum of the gradients that come back to {place}"
        elif not _finite(left):
            self.found = f"{place}, going back ({node.name()})"

    def _claim(self, tensors: Iterable[Tensor], module: nn.Module) -> None:
        """Note for the nodes behind tensors, but those known, who made them."""
        nodes = [tensor.grad_fn for tensor in tensors]
        while nodes:
            node = nodes.pop()
            if node is not None and node not in self._makers:
                self._makers[node] = module
                nodes += [following for following, _ in node.next_functions]

    def _name(self, module: nn.Module) -> str:
        name, kind = self._names[module], type(module).__name__
        return f"{name} ({kind})" if name else kind


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


@torch.no_grad()  # or what is looked at would be kept for the backward pass
def _finite(value: Any) -> bool:
    return all(bool(local(one).isfinite().all()) for one in _tensors(value))


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process has, of one that several share."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
