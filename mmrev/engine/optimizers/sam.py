"""Sharpness-aware minimisation (SAM).

Paper: arXiv 2010.01412. Each parameter update takes the gradient not at the weights
``w`` but at ``w + rho * g / |g|``, where the loss of this batch is about the highest
nearby; ``g`` is the gradient at ``w``.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from mmrev.engine.optimizers.agc import (
    AGCAmpOptimWrapper,
    AGCBFloat16OptimWrapper,
    AGCOptimWrapper,
)
from mmrev.measure.not_finite import local
from mmrev.registry import OPTIM_WRAPPERS
from mmrev.reversible.replay import RandomState, frozen_buffers

__all__ = [
    "SAMAmpOptimWrapper",
    "SAMBFloat16OptimWrapper",
    "SAMOptimWrapper",
    "SharpnessAware",
]


class SharpnessAware:
    """Makes an optimizer wrapper of mmengine take sharpness-aware steps.

    To be named before the wrapper among a class's bases. It needs no hook and no loop:
    in ``optim_context`` it notes what ``train_step`` calls the model with, after the
    data preprocessor, and ``update_params`` calls the model with it again at the
    displaced weights, with the same random numbers and without a second update of
    buffers (BatchNorm). The weights are put back exactly before gradients are clipped
    and the optimizer steps.

    With gradient accumulation every part of the batch is displaced by its own gradient,
    and so is every process of a distributed run (the paper's m-sharpness; of a sharded
    one all are by the mean of their gradients); only the second gradient is accumulated
    and shared. The losses that are logged are those at
    ``w``. A step takes about twice the time, and a second copy of the weights.

    Args:
        *args: of the wrapper.
        rho: length of the displacement.
        **kwargs: of the wrapper.
    """

    def __init__(self, *args, rho: float = 0.05, **kwargs):
        super().__init__(*args, **kwargs)
        self.rho = rho
        self._call = None
        self._start: list[tuple[nn.Parameter, Tensor]] = []

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Note the call of the model; enter the wrapper's context."""

        def note(_: nn.Module, args: tuple, kwargs: dict) -> None:
            device = next(model.parameters()).device
            self._call = model, args, kwargs, RandomState(device)

        hook = model.register_forward_pre_hook(note, with_kwargs=True)
        local = model.no_sync() if hasattr(model, "no_sync") else nullcontext()
        try:
            with local, super().optim_context(model):
                yield
        finally:
            hook.remove()

    def update_params(self, loss: Tensor, *args, **kwargs) -> None:
        """Climb, take the loss there, and update the parameters by its gradient.

        Args:
            loss: at the weights as they are, of a call of the model in
                `optim_context`.
            *args: of mmengine.
            **kwargs: of mmengine.

        Raises:
            RuntimeError: if the model was not called in `optim_context`.
        """
        if self._call is None:
            raise RuntimeError(
                f"{type(self).__name__}: expected one call of the model in "
                "optim_context before update_params, as in train_step, got none."
            )
        try:
            self._climb(loss)
            super().update_params(self._loss_again(), *args, **kwargs)
        finally:
            # Whoever catches what went wrong, or saves after it, finds the weights.
            self._descend()

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Take the gradient and go back to where the weights were."""
        super().backward(loss, **kwargs)
        self._descend()

    def _descend(self) -> None:
        if self._start:
            with torch.no_grad():
                moved, then = zip(*self._start, strict=True)
                torch._foreach_copy_([*map(local, moved)], list(then))
        self._start = []

    def _climb(self, loss: Tensor) -> None:
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        accumulated = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        try:
            super().backward(loss)
            self._inner_count -= 1  # not a part of the batch of its own
            moving = [p for p in parameters if p.grad is not None]
            # Of scaled gradients, too, this is the direction.
            gradients = [p.grad for p in moving]
            # The host waits for the device once.
            length = torch.nn.utils.get_total_norm(gradients).item()
            if 0 < length < math.inf:
                with torch.no_grad():
                    now, along = ([*map(local, ts)] for ts in (moving, gradients))
                    then = [torch.empty_like(tensor) for tensor in now]
                    torch._foreach_copy_(then, now)
                    self._start = list(zip(moving, then, strict=True))
                    torch._foreach_add_(now, along, alpha=self.rho / length)
        finally:
            for parameter, gradient in zip(parameters, accumulated, strict=True):
                parameter.grad = gradient

    def _loss_again(self) -> Tensor:
        (model, args, kwargs, random), self._call = self._call, None
        with (
            super().optim_context(model),
            random.replayed(),
            frozen_buffers(model.modules()),
        ):
            losses = model(*args, **kwargs)
        owner = model.module if is_model_wrapper(model) else model
        return owner.parse_losses(losses)[0]


@OPTIM_WRAPPERS.register_module()
class SAMOptimWrapper(SharpnessAware, AGCOptimWrapper):
    """`AGCOptimWrapper` with `SharpnessAware`; ``clip_factor=None`` is SAM alone."""


@OPTIM_WRAPPERS.register_module()
class SAMAmpOptimWrapper(SharpnessAware, AGCAmpOptimWrapper):
    """`AGCAmpOptimWrapper` with `SharpnessAware`; ``clip_factor=None``: SAM alone."""


@OPTIM_WRAPPERS.register_module()
class SAMBFloat16OptimWrapper(SharpnessAware, AGCBFloat16OptimWrapper):
    """`AGCBFloat16OptimWrapper` with `SharpnessAware`."""
