"""Models of which every process holds a part: torch's ``fully_shard`` (FSDP2).

A unit of the model gathers its weights from all processes before it runs and lets go of
them afterwards, in the backward pass again, whose gradients every process gets for its
part alone. Optimizers are built of these parts and step on them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast, get_world_size, is_main_process
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import distribute_tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from mmrev.engine.strategies.units import find_units
from mmrev.models.layers.parameter_cache import ParameterCache
from mmrev.registry import STRATEGIES

__all__ = ["FSDP2Strategy"]


@STRATEGIES.register_module()
class FSDP2Strategy:
    """Shards a model by ``fully_shard``; the units are those of `find_units`.

    mmengine's loops call the model itself, whose `forward` calls its ``loss`` and
    ``predict``. These are no forward methods of their own to FSDP: within `forward` it
    would let go of the weights twice, and gather them anew in an evaluation.

    Autocast is torch's own, as in one process, and not FSDP's mixed precision, which
    would round what has to stay in fp32 (position bias, layer scales, norms).

    Attributes:
        scalars: names of the parameters without an axis, which have one when sharded.
    """

    def __init__(self):
        self.scalars: set[str] = set()

    @contextmanager
    def building(self) -> Iterator[None]:
        """Build a model inside: the first process whole, all others without weights.

        What is no parameter they have, too: buffers, and numbers that a constructor
        reads.
        """

        def let_go(_: nn.Module, __: str, parameter: nn.Parameter | None):
            if parameter is None:
                return None
            return nn.Parameter(parameter.to("meta"), parameter.requires_grad)

        if is_main_process():
            yield
            return
        handle = register_module_parameter_registration_hook(let_go)
        try:
            yield
        finally:
            handle.remove()

    def shard(self, model: nn.Module) -> nn.Module:
        """Spread a model, with the weights of the first process, over all.

        Args:
            model: built inside `building`, initialised in the first process.

        Returns:
            The same module.
        """
        for module in model.modules():
            for value in vars(module).values():
                if isinstance(value, ParameterCache):
                    value.close()
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        self._give_axes(model)
        # Aliases, which stay where they are when a parameter is moved to a GPU.
        whole = {}
        if is_main_process():
            whole = {name: p.detach() for name, p in model.named_parameters()}
        for unit in find_units(model):
            fully_shard(unit, mesh=mesh)
        fully_shard(model, mesh=mesh)
        model.register_forward_pre_hook(_keep_no_casts)
        _fill(model, whole, mesh)
        return model

    def _give_axes(self, model: nn.Module) -> None:
        """`fully_shard` takes no parameter without an axis."""
        for prefix, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim == 0:
                    longer = parameter.detach().reshape(1)
                    setattr(module, name, nn.Parameter(longer, parameter.requires_grad))
                    self.scalars.add(f"{prefix}.{name}" if prefix else name)


def _keep_no_casts(*_) -> None:
    """Let autocast not keep the weights that it has cast: all of them, by the end."""
    if any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
        torch.set_autocast_cache_enabled(False)  # until the context is left


def _fill(model: nn.Module, whole: dict[str, Tensor], mesh: DeviceMesh) -> None:
    """Give every process its part of the weights, one after the other, and buffers."""
    device = get_device()
    model._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t)
    with torch.no_grad():
        for name, part in model.named_parameters():
            value = whole.pop(name, None)
            if value is None:
                value = torch.empty(part.shape, dtype=part.dtype)
            part.copy_(distribute_tensor(value.to(device), mesh, part.placements))
        for buffer in model.buffers():
            broadcast(buffer)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keep the whole weights of a sharded model inside.

    For evaluation: images of other sizes take another number of forward passes, with
    sliding windows for one, and processes would wait for each other without an end.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.unshard()
        module.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for module in sharded:
            module.set_reshard_after_forward(module is not model, recurse=False)
            module.reshard()
