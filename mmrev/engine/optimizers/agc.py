"""Adaptive gradient clipping (AGC).

Paper: arXiv 2102.06171, section 4. Reference: google-deepmind/deepmind-research
@f5de0ed, nfnets/optim.py (SGD_AGC), Apache-2.0.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from mmrev.engine.optimizers.amp import BFloat16OptimWrapper
from mmrev.registry import OPTIM_WRAPPERS

__all__ = [
    "AGCAmpOptimWrapper",
    "AGCBFloat16OptimWrapper",
    "AGCOptimWrapper",
    "AdaptiveClipping",
    "clip_units_",
]


@torch.no_grad()
def clip_units_(
    parameter: Tensor, clip_factor: float, eps: float, groups: int | None = None
) -> None:
    """Shorten the gradient of each unit to a share of the length of its weights.

    A unit is one output of a layer, thus an index of the first axis; a tensor with one
    axis that is longer than 1, or none, is one unit as a whole.

    Args:
        parameter: with a gradient, which is changed in place.
        clip_factor: lambda, the largest length relative to the weights'.
        eps: what the length of the weights counts at least.
        groups: of a transposed convolution, whose outputs are on the second axis.
    """
    weight, gradient = parameter, parameter.grad
    if sum(size > 1 for size in weight.shape) <= 1:
        axes = tuple(range(weight.ndim))
    elif groups is None:
        axes = tuple(range(1, weight.ndim))
    else:
        weight = weight.unflatten(0, (groups, -1))
        gradient = gradient.unflatten(0, (groups, -1))
        axes = (1, *range(3, weight.ndim))
    longest = clip_factor * _length(weight, axes).clamp(min=eps)
    # The floor only prevents a division by zero.
    factor = longest / _length(gradient, axes).clamp(min=1e-6)
    gradient.mul_(factor.clamp(max=1).to(gradient.dtype))


def _length(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x, dim=axes, keepdim=True, dtype=dtype)


class AdaptiveClipping:
    """Makes an optimizer wrapper of mmengine clip unit by unit before each step.

    To be named before the wrapper among a class's bases. Gradients are clipped when
    all of an accumulated batch are there and loss scaling is undone, and before the
    optimizer adds weight decay. mmengine's own `clip_grad`, if given too, follows.

    Args:
        *args: of the wrapper.
        clip_factor: lambda; None clips no units.
        eps: what the length of a unit's weights counts at least, so that weights that
            start at 0 can grow.
        exclude: parts of the names of parameters that are not clipped; the paper leaves
            out the classifier's weight, as in ``('head.fc.weight',)``.
        clip_grad: of mmengine.
        **kwargs: of the wrapper.

    Raises:
        ValueError: on the first step, if a part of `exclude` is in no name.
    """

    def __init__(
        self,
        *args,
        clip_factor: float | None = 0.01,
        eps: float = 1e-3,
        exclude: Sequence[str] = (),
        clip_grad: dict | None = None,
        **kwargs,
    ):
        super().__init__(*args, clip_grad=clip_grad, **kwargs)
        if isinstance(exclude, str):
            raise ValueError(
                f"{type(self).__name__}: exclude must be a list of parts of names, got "
                f"{exclude!r}; write [{exclude!r}]."
            )
        self.clip_factor, self.eps, self.exclude = clip_factor, eps, tuple(exclude)
        self._clips_norm = bool(clip_grad)
        if clip_factor is not None:
            # What makes mmengine's wrappers undo loss scaling and call _clip_grad.
            self.clip_grad_kwargs = self.clip_grad_kwargs or {
                "clip_factor": clip_factor
            }
        self._model: nn.Module | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Learn the names of the parameters; enter the wrapper's context."""
        if self._model is not model:
            self._learn_names(model)
            self._model = model
        with super().optim_context(model):
            yield

    def _learn_names(self, model: nn.Module) -> None:
        named = list(model.named_parameters(remove_duplicate=False))
        for part in self.exclude:
            if not any(part in name for name, _ in named):
                names = ", ".join(name for name, _ in named[-3:])
                raise ValueError(
                    f"{type(self).__name__}: exclude must name parameters of the "
                    f"model, got {part!r}, which is in no name; names end with {names}."
                )
        self._excluded = {
            id(parameter)
            for name, parameter in named
            if any(part in name for part in self.exclude)
        }
        self._transposed = {
            id(module.weight): module.groups
            for module in model.modules()
            if isinstance(module, _ConvTransposeNd)
        }

    def _clip_grad(self) -> None:
        if self.clip_factor is not None:
            if self._model is None:
                raise RuntimeError(
                    f"{type(self).__name__}: expected optim_context(model) around the "
                    "forward pass, as in train_step, got a step without it."
                )
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is None or id(parameter) in self._excluded:
                        continue
                    groups = self._transposed.get(id(parameter))
                    clip_units_(parameter, self.clip_factor, self.eps, groups)
        if self._clips_norm:
            super()._clip_grad()


@OPTIM_WRAPPERS.register_module()
class AGCOptimWrapper(AdaptiveClipping, OptimWrapper):
    """mmengine's OptimWrapper with `AdaptiveClipping`."""


@OPTIM_WRAPPERS.register_module()
class AGCAmpOptimWrapper(AdaptiveClipping, AmpOptimWrapper):
    """mmengine's AmpOptimWrapper with `AdaptiveClipping`."""


@OPTIM_WRAPPERS.register_module()
class AGCBFloat16OptimWrapper(AdaptiveClipping, BFloat16OptimWrapper):
    """mmrev's BFloat16OptimWrapper with `AdaptiveClipping`."""
