"""Checkpoints of a sharded run, of which every process holds its part."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, broadcast_object_list, is_main_process
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from mmrev.checkpoints.folders import (
    is_folder,
    load_parts,
    put,
    read_rest,
    stored,
    write_folder,
)
from mmrev.checkpoints.runs import read_checkpoint
from mmrev.errors import UserError

__all__ = ["Parts"]


class Parts:
    """What of a checkpoint is spread as which parameter of a sharded model.

    Optimizers keep their state by the number of a parameter, frozen or not, as in a
    checkpoint of one process, so that nothing is left out.

    Args:
        model: sharded.
        optimizer: of the model; None where nothing is trained.
        scalars: names of parameters that have an axis only to be sharded.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None, scalars: set[str]
    ):
        named = dict(model.named_parameters())
        groups = optimizer.param_groups if optimizer else ()
        numbered = enumerate(p for group in groups for p in group["params"])
        self._like: dict[tuple, dict[Any, Tensor]] = {
            ("state_dict",): model.state_dict(keep_vars=True),
            ("gradients",): named,
            ("optimizer", "state"): dict(numbered),
        }
        self._scalars = {id(named[name]) for name in scalars}

    def like(self, place: Sequence) -> Tensor | None:
        """The parameter as which the tensor at a place may be spread.

        Args:
            place: keys from the outermost.
        """
        for start, parameters in self._like.items():
            if tuple(place[: len(start)]) == start and len(place) > len(start):
                return parameters.get(place[len(start)])
        return None

    def save(self, path: str | Path, checkpoint: dict) -> None:
        """Write a folder; see `write_folder`."""
        places = _places(checkpoint)
        scalars = [p for p in places if id(self.like(p)) in self._scalars]
        write_folder(path, checkpoint, scalars)

    def load(self, path: str | Path) -> dict:
        """Read a checkpoint, file or folder, into parts.

        A file is read by the first process, tensor after tensor goes to the others.

        Raises:
            UserError: it cannot be read.
        """
        if is_folder(path):
            try:
                return self._load_folder(path)
            except (FileNotFoundError, ValueError) as error:
                raise UserError(str(error)) from error
        read = read_checkpoint(path) if is_main_process() else {}
        tensors = {p: v for p, v in _places(read).items() if isinstance(v, Tensor)}
        for place, tensor in tensors.items():
            put(read, place, tensor.to("meta"))
        (checkpoint,) = received = [read]
        broadcast_object_list(received)
        (checkpoint,) = received
        for place, shape in _places(checkpoint).items():
            if isinstance(shape, Tensor):
                put(checkpoint, place, self._spread(place, shape, tensors.get(place)))
        return checkpoint

    def _spread(self, place: tuple, shape: Tensor, value: Tensor | None) -> Tensor:
        """A tensor of the first process: its parts, or itself, in all."""
        like = self.like(place)
        device = like.device if isinstance(like, DTensor) else None
        whole = torch.empty_like(shape, device=device or "cpu")
        if value is not None:
            whole.copy_(value)
        scalar = id(like) in self._scalars and place[-1] != "step"  # of an optimizer
        if isinstance(like, DTensor) and (scalar or like.shape == whole.shape):
            whole = whole.view(like.shape)
            return distribute_tensor(whole, like.device_mesh, like.placements)
        broadcast(whole)
        return whole

    def _load_folder(self, path: str | Path) -> dict:
        checkpoint = read_rest(path)
        places, _ = checkpoint.pop("parts"), checkpoint.pop("scalars")
        parts = {}
        for key, kind in stored(path).items():
            like = self.like(places[key])
            if isinstance(like, DTensor) and like.shape == kind.size:
                dtype = kind.properties.dtype
                parts[key] = torch.empty_like(like, dtype=dtype, requires_grad=False)
            else:  # of another model, as whoever compares the shapes will say
                empty = torch.empty(kind.size, device="meta")
                put(checkpoint, places[key], empty)
        load_parts(path, parts)
        for key, part in parts.items():
            put(checkpoint, places[key], part)
        return checkpoint


def _places(value: Mapping, place: tuple = ()) -> dict[tuple, Any]:
    """What stands in nested dicts, by its keys from the outermost."""
    found = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _places(inner, (*place, key))
        else:
            found[(*place, key)] = inner
    return found
