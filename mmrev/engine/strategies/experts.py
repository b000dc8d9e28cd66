"""Experts of which every process of a run has its share.

Gradients are those of the mean over processes, as DistributedDataParallel's: that
averages what all have, and leaves the experts alone, whose gradients are summed where
they are, over the tokens of all. The other processes' experts stay in the model and in
the optimizer, but without memory: names and numbers in a checkpoint are those of a run
of one process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from mmengine.dist import is_main_process
from torch import Tensor, nn
from torch.optim import Optimizer

from mmrev.models.layers.moe import Experts
from mmrev.registry import STRATEGIES

__all__ = ["ExpertParallelStrategy", "whole_experts"]


@STRATEGIES.register_module()
class ExpertParallelStrategy:
    """Divides every layer of experts over all processes, see `Experts`."""

    def __init__(self):
        self._layers: list[Experts] = []

    def divide(self, model: nn.Module) -> None:
        """Leave this process its share of the experts.

        Args:
            model: with the same weights in every process, not wrapped yet.

        Raises:
            ValueError: if there are no experts, or they cannot be shared out evenly.
        """
        world = dist.get_world_size()
        layers = {n: m for n, m in model.named_modules() if isinstance(m, Experts)}
        if not layers:
            raise ValueError(
                f"expert parallelism: {type(model).__name__} has no experts, as "
                "mmrev.SwinTransformerV2(moe=dict(num_experts=8)) has. Train it "
                "without."
            )
        for name, layer in layers.items():
            if (count := len(layer.experts)) % world:
                fitting = [str(n) for n in range(1, count + 1) if count % n == 0]
                raise ValueError(
                    f"expert parallelism: the {count} experts of {name} do not divide "
                    f"over {world} processes. Start {' or '.join(fitting)} of them, or "
                    f"set num_experts to a multiple of {world}, as "
                    f"{-(-count // world) * world}."
                )
        self._layers = list(layers.values())
        # Messages of tokens and of gradients may cross.
        group = dist.new_group()
        parameters = {id(p) for _, p in _owned(self._layers)}
        names = [n for n, p in model.named_parameters() if id(p) in parameters]
        model._ddp_params_and_buffers_to_ignore = names
        for _, parameter in _owned(self._layers):
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient: gradient / world)
        _let_go(self._layers, group)

    def clip_grad_norm(
        self, parameters: list[Tensor], max_norm: float, norm_type: float = 2.0, **_
    ) -> Tensor:
        """As ``torch.nn.utils.clip_grad_norm_``, by the norm of all experts.

        Otherwise every process would clip what they all have by another norm.

        Args:
            parameters: with gradients.
            max_norm: as there.
            norm_type: as there.

        Returns:
            The norm, 0-d, the same in all processes.
        """
        experts = {id(p) for _, p in _owned(self._layers)}
        shared, own = (
            torch.nn.utils.get_total_norm(
                [p.grad for p in parameters if (id(p) in experts) == belongs], norm_type
            ).to(parameters[0].grad)
            for belongs in (False, True)
        )
        norms = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(norms, own)
        total = torch.linalg.vector_norm(torch.stack([shared, *norms]), norm_type)
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, total)
        return total

    @contextmanager
    def whole_states(self, optimizer: Optimizer) -> Iterator[None]:
        """Give the first process the optimizer's state of all experts inside.

        It is on the CPU there.
        """
        for owner, parameter in _owned(self._layers):
            state = optimizer.state.get(parameter)
            if not is_main_process() and owner == dist.get_rank():
                dist.send_object_list([_on_cpu(state)], 0)
            elif is_main_process() and owner:
                received = [None]
                dist.recv_object_list(received, owner)
                if received[0] is not None:
                    optimizer.state[parameter] = received[0]
        try:
            yield
        finally:
            self.forget_states(optimizer)

    def forget_states(self, optimizer: Optimizer) -> None:
        """Leave an optimizer the state of this process's experts alone."""
        for owner, parameter in _owned(self._layers):
            if owner != dist.get_rank():
                optimizer.state.pop(parameter, None)


@contextmanager
def whole_experts(model: nn.Module) -> Iterator[None]:
    """Give every process all experts inside, if they are divided.

    For checkpoints; and for evaluation, in which processes take other numbers of
    forward passes and would wait for each other without an end.
    """
    layers = [m for m in model.modules() if isinstance(m, Experts) and m.group]
    if not layers:
        yield
        return
    group = layers[0].group
    for owner, parameter in _owned(layers):
        if owner != group.rank():
            parameter.data = torch.empty(
                parameter.shape, dtype=parameter.dtype, device=parameter.device
            )
        dist.broadcast(parameter.data, owner)
    for layer in layers:
        layer.group = None
    try:
        yield
    finally:
        _let_go(layers, group)


def _owned(layers: list[Experts]) -> Iterator[tuple[int, nn.Parameter]]:
    """The parameters of experts, each with the process that has it."""
    world = dist.get_world_size()
    for layer in layers:
        for index, expert in enumerate(layer.experts):
            owner = index * world // len(layer.experts)
            for parameter in expert.parameters():
                yield owner, parameter


def _let_go(layers: list[Experts], group: dist.ProcessGroup) -> None:
    """Divide experts, and free what is not this process's."""
    for layer in layers:
        layer.group = group
    for owner, parameter in _owned(layers):
        if owner != group.rank():
            # One number that is read everywhere: whoever looks at all weights may.
            parameter.data = parameter.data.new_zeros(()).expand(parameter.shape)


def _on_cpu(state: dict | None) -> dict | None:
    if state is None:
        return None
    return {k: v.cpu() if isinstance(v, Tensor) else v for k, v in state.items()}
