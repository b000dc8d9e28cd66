"""Adaptive gradient clipping (AGC).

Paper: arXiv 2102.06171, section 4. Reference: google-deepmind/deepmind-research
@f5de0ed, nfnets/optim.py (SGD_AGC), Apache-2.0.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor
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

Pair = tuple[Tensor, Tensor]
"""Weights and their gradient."""


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
    clip_all_units_([(parameter, groups)], clip_factor, eps)


@torch.no_grad()
def clip_all_units_(
    parameters: Iterable[tuple[Tensor, int | None]], clip_factor: float, eps: float
) -> None:
    """`clip_units_` of many parameters, with a few operations for all of one shape.

    A unit's sum of squares may run in another order than alone, so that its length
    differs by rounding: on a GPU, and where tensors are not contiguous, or sharded.

    Args:
        parameters: parameters with gradients, each with its `groups`.
        clip_factor: of `clip_units_`.
        eps: of `clip_units_`.
    """
    alike: dict[tuple, list[Pair]] = {}
    spread = []
    for parameter, groups in parameters:
        weight, gradient = parameter, parameter.grad
        if isinstance(weight, DTensor):
            if groups is not None:
                _clip_gathered_(weight, gradient, clip_factor, eps, groups)
                continue
            # Processes share out the first axis, so that other units are whole.
            if _is_one_unit(weight.shape):
                spread.append((weight, gradient))
                continue
            weight, gradient = weight.to_local(), gradient.to_local()
        key = (weight.shape, weight.device, weight.dtype, gradient.dtype, groups)
        alike.setdefault(key, []).append((weight, gradient))
    for (shape, device, *_, groups), members in alike.items():
        elements = ELEMENTS_AT_ONCE.get(device.type, ELEMENTS_AT_ONCE_ELSEWHERE)
        count = max(1, elements // max(1, shape.numel()))
        for start in range(0, len(members), count):
            _clip_alike_(members[start : start + count], clip_factor, eps, groups)
    if spread:
        _clip_spread_(spread, clip_factor, eps)


@torch.no_grad()
def _clip_spread_(
    pairs: Sequence[tuple[DTensor, DTensor]], clip_factor: float, eps: float
) -> None:
    """Clip units that lie on several processes, with one message for all."""
    local = [[one.to_local() for one in pair] for pair in pairs]
    lengths = torch.stack(
        [torch.stack([_length(x.flatten(), (0,))[0] for x in pair]) for pair in local]
    )
    squares = lengths.square()
    dist.all_reduce(squares, group=pairs[0][0].device_mesh.get_group())
    factors = _factor(*squares.sqrt().unbind(1), clip_factor, eps)
    for (_, gradient), factor in zip(local, factors, strict=True):
        gradient.mul_(factor.to(gradient.dtype))


@torch.no_grad()
def _clip_gathered_(
    weight: DTensor, gradient: DTensor, clip_factor: float, eps: float, groups: int
) -> None:
    """Clip units that no axis of the processes tells apart."""
    whole = gradient.full_tensor()
    _clip_alike_([(weight.full_tensor(), whole)], clip_factor, eps, groups)
    mesh, placements = gradient.device_mesh, gradient.placements
    gradient.copy_(distribute_tensor(whole, mesh, placements, src_data_rank=None))


@torch.no_grad()
def _clip_alike_(
    pairs: Sequence[Pair], clip_factor: float, eps: float, groups: int | None
) -> None:
    weight, gradient = map(_together, zip(*pairs, strict=True))
    shape = weight.shape[1:]
    scaled = gradient
    if _is_one_unit(shape):
        weight, scaled = (x.view(len(x), shape.numel()) for x in (weight, scaled))
        axes = (1,)
    elif groups is None:
        axes = tuple(range(2, weight.ndim))
    else:
        weight, scaled = (x.unflatten(1, (groups, -1)) for x in (weight, scaled))
        axes = (2, *range(4, weight.ndim))
    lengths = _length(weight, axes), _length(scaled, axes)
    scaled.mul_(_factor(*lengths, clip_factor, eps).to(scaled.dtype))
    if len(pairs) > 1:
        torch._foreach_copy_([one for _, one in pairs], gradient.unbind())


def _is_one_unit(shape: torch.Size) -> bool:
    return sum(size > 1 for size in shape) <= 1


def _factor(weight: Tensor, gradient: Tensor, clip_factor: float, eps: float) -> Tensor:
    """What shortens gradients of these lengths, beside weights of those; at most 1."""
    # The second floor only prevents a division by zero.
    longest = clip_factor * weight.clamp(min=eps)
    return (longest / gradient.clamp(min=1e-6)).clamp(max=1)


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
