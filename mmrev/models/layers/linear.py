"""Linear layers of feature maps."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmrev.models.layers.keeping import is_traced, is_watched
from mmrev.models.layers.packed import (
    ACTIVATIONS,
    HAS_AVX512,
    packed_dtype,
    packed_linear,
    times,
)
from mmrev.models.layers.parameter_cache import ParameterCache

# Rows from which oneDNN is faster than MKL, and where weights with more columns than
# rows have to be reordered for it.
LEAST_ROWS, LEAST_ROWS_TO_REORDER = 64, 512


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear``; with AVX-512 by oneDNN.

    torch multiplies fp32 matrices with MKL, which there is slower on AMD's processors.

    Args:
        x: (..., C_in).
        weight: (C_out, C_in).
        bias: (C_out,) or None.

    Returns:
        (..., C_out).
    """
    if not prefers_onednn(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    result = _Linear.apply(rows, weight, bias)
    return result.view(*x.shape[:-1], -1)


def prefers_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `linear` computes something else than ``F.linear``."""
    # What is recorded runs elsewhere, and for other numbers of rows; who counts
    # operations knows torch's own.
    if is_traced() or is_watched():
        return False
    return (
        HAS_AVX512
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.numel() >= LEAST_ROWS * x.shape[-1]
    )


class _Linear(torch.autograd.Function):
    """Each product by whoever is faster; torch would take one of them for all three."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if weight.shape[1] > weight.shape[0] and len(x) < LEAST_ROWS_TO_REORDER:
            return F.linear(x, weight, bias)
        return times(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = times(gradient, weight.T, None)
        if ctx.needs_input_grad[1]:
            rows, columns = weight.shape
            by = times if rows < columns else F.linear
            to_weight = by(gradient.T, x.T, None)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum(0)
        return to_x, to_weight, to_bias


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`, and an activation.

    In evaluation mode and without gradients, on a CPU with AVX-512, a copy of the
    weights is kept in oneDNN's layout.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        bias: whether there is one.
        activation: a name in `ACTIVATIONS`, or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        activation: str | None = None,
        **settings,
    ):
        super().__init__(in_channels, out_channels, bias, **settings)
        self.activation = activation
        self._packed = ParameterCache()

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., C_in) to (..., C_out); a bias may be given to a layer without one."""
        bias = self.bias if bias is None else bias
        used = [self.weight] if bias is None else [self.weight, bias]
        keeps = not self.training and self._packed.keeps(used)
        if keeps and (dtype := packed_dtype(x)):
            pack = partial(packed_linear, self.weight, dtype, self.activation)
            return self._packed.get([self.weight], pack, form=dtype)(x, bias)
        x = linear(x, self.weight, bias)
        return ACTIVATIONS[self.activation](x) if self.activation else x

    def train(self, mode: bool = True) -> "Linear":
        """Set the mode, forget the copy; return self."""
        self._packed.clear()
        return super().train(mode)
