"""Adaptive gradient clipping (AGC).

Paper: arXiv 2102.06171, section 4. Reference: google-deepmind/deepmind-research
@f5de0ed, nfnets/optim.py (SGD_AGC), Apache-2.0.
"""

from collections.abc import Iterable, Iterator, Sequence
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
    "clip_all_units_",
    "clip_units_",
]


# Elements of weights that are put side by side at most, so that one kernel measures
# many parameters. Where a launch costs little, they should stay in a core's cache.
ELEMENTS_AT_ONCE = {"cpu": 2**16}
ELEMENTS_AT_ONCE_ELSEWHERE = 2**24


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
    _clip_alike_([parameter], clip_factor, eps, groups)


def clip_all_units_(
    parameters: Iterable[tuple[Tensor, int | None]], clip_factor: float, eps: float
) -> None:
    """`clip_units_` of many parameters, with a few operations for all of one shape.

    A unit's sum of squares may run in another order than alone, so that its length
    differs by rounding: on a GPU, and where tensors are not contiguous.

    Args:
        parameters: parameters with gradients, each with its `groups`.
        clip_factor: of `clip_units_`.
        eps: of `clip_units_`.
    """
    alike: dict[tuple, list[Tensor]] = {}
    for parameter, groups in parameters:
        key = (
            parameter.shape,
            parameter.device,
            parameter.dtype,
            parameter.grad.dtype,
            groups,
        )
        alike.setdefault(key, []).append(parameter)
    for (shape, device, *_, groups), members in alike.items():
        elements = ELEMENTS_AT_ONCE.get(device.type, ELEMENTS_AT_ONCE_ELSEWHERE)
        count = max(1, elements // max(1, shape.numel()))
        for start in range(0, len(members), count):
            _clip_alike_(members[start : start + count], clip_factor, eps, groups)


@torch.no_grad()
def _clip_alike_(
    parameters: Sequence[Tensor], clip_factor: float, eps: float, groups: int | None
) -> None:
    weight, gradient = _together(parameters), _together([p.grad for p in parameters])
    shape = weight.shape[1:]
    scaled = gradient
    if sum(size > 1 for size in shape) <= 1:
        weight, scaled = (x.view(len(x), shape.numel()) for x in (weight, scaled))
        axes = (1,)
    elif groups is None:
        axes = tuple(range(2, weight.ndim))
    else:
        weight, scaled = (x.unflatten(1, (groups, -1)) for x in (weight, scaled))
        axes = (2, *range(4, weight.ndim))
    longest = clip_factor * _length(weight, axes).clamp(min=eps)
    # The floor only prevents a division by zero.
    factor = longest / _length(scaled, axes).clamp(min=1e-6)
    scaled.mul_(factor.clamp(max=1).to(scaled.dtype))
    if len(parameters) > 1:
        torch._foreach_copy_([p.grad for p in parameters], gradient.unbind())


def _together(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape along a new first axis; of one alone, a view."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


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
            clipped = (
                (parameter, self._transposed.get(id(parameter)))
                for group in self.optimizer.param_groups
                for parameter in group["params"]
                if parameter.grad is not None and id(parameter) not in self._excluded
            )
            clip_all_units_(clipped, self.clip_factor, self.eps)
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
