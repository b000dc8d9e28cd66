"""What networks without normalisation of activations are made of.

Papers: arXiv 2101.08692, arXiv 2102.06171.
Reference: google-deepmind/deepmind-research @f5de0ed, nfnets/base.py, Apache-2.0.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmrev.models.layers.linear import linear, prefers_onednn
from mmrev.models.layers.packed import ACTIVATIONS, Packed, packed_conv, packed_dtype
from mmrev.models.layers.parameter_cache import ParameterCache

# deepmind: rsqrt(max(var * fan_in, FLOOR)); timm: rsqrt((var + EPS) * fan_in).
FLOOR = 1e-4
EPS = 1e-5
FLAVOURS = ("deepmind", "timm")
NEXT_TO_NOTHING = 2.0**-40
# 1 / the standard deviation of a standard normal variable's GELU.
GELU_GAMMA = 1.7015043497085571


# The activation, without its factor `GELU_GAMMA`: by tanh or exact.
GELUS = {"deepmind": "gelu_tanh", "timm": "gelu"}


def gelu(flavour: str) -> nn.GELU:
    """The activation as a module."""
    return nn.GELU(approximate="tanh" if flavour == "deepmind" else "none")


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _Standardize(torch.autograd.Function):
    """Rows of mean 0 and variance 1 / fan_in, times a gain.

    torch's layer norm, which is fused, and its gradient with the gain's. Composed of
    torch's own functions, autograd would keep a second copy of every weight. Half
    precision is computed in fp32: the sums over a row pass fp16's range.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, gain: Tensor, flavour: str) -> Tensor:
        rows = _wide(weight.flatten(1))
        fan_in = rows.shape[1]
        # The small one only keeps constant rows from dividing by zero.
        eps = EPS if flavour == "timm" else 1e-30
        result, mean, rstd = torch.native_layer_norm(rows, (fan_in,), None, None, eps)
        scale = torch.full_like(rstd, fan_in**-0.5)
        if flavour == "deepmind":
            scale = torch.minimum(scale, FLOOR**-0.5 / rstd)
        ctx.save_for_backward(weight, gain, mean, rstd, scale)
        result.mul_(scale * gain[:, None])
        return result.view_as(weight).to(weight.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, gain, mean, rstd, scale = ctx.saved_tensors
        rows, gradient = _wide(weight.flatten(1)), _wide(gradient.flatten(1))
        # Rows are to a batch norm what channels are to maps, and its gradient is one
        # kernel. Below the floor a row is scaled by a constant, and what a norm takes
        # away along the row must not be; it is as the square of the norm's 1 / std.
        free = scale < rows.shape[1] ** -0.5
        inverse = torch.where(free, NEXT_TO_NOTHING, rstd)
        scale = scale * rstd / inverse
        to_weight, to_gain, _ = torch.ops.aten.native_batch_norm_backward(
            gradient[None],
            rows[None],
            (scale * gain[:, None]).flatten(),
            None,
            None,
            mean.flatten(),
            inverse.flatten(),
            True,
            0.0,
            [True, True, False],
        )
        return to_weight.view_as(weight), to_gain * scale.flatten(), None


class WSConv2d(nn.Conv2d):
    """Convolution whose kernels are standardised, with a gain, and SAME padding.

    The padding is TensorFlow's: the output has ceil(size / stride) pixels, and an odd
    pixel of padding goes to the right and bottom. While gradients are off or the
    parameters frozen, and the module is not training, the standardised kernels are
    kept, where it is faster in oneDNN's layout; they take as much memory again as the
    weights.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: k, odd.
        stride: of the convolution.
        groups: of the convolution.
        input_scale: a constant that the input is to be multiplied with.
        flavour: 'deepmind' or 'timm', how small variances are kept from zero.
        activation: what follows, 'gelu' of that flavour, see `gelu`, or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        input_scale: float = 1.0,
        flavour: str = "deepmind",
        activation: str | None = None,
    ):
        padding = kernel_size // 2 if stride == 1 else 0
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups
        )
        self.gain = nn.Parameter(torch.ones(out_channels))
        self.input_scale = input_scale
        self.flavour = flavour
        self.activation = activation and GELUS[flavour]
        self._cache = ParameterCache()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] > 1:
            height, width = (self._padding(size) for size in x.shape[-2:])
            x = F.pad(x, (*width, *height))
        parameters = (self.weight, self.gain)
        if self.training:
            weight = self.standardized_weight()
        elif self._cache.keeps([*parameters, self.bias]) and (dtype := packed_dtype(x)):
            pack = partial(self._packed, x, dtype)
            return self._cache.get(parameters, pack, form=dtype)(x, self.bias)
        else:
            weight = self._cache.get(parameters, self.standardized_weight)
        x = self._convolved(x, weight)
        return ACTIVATIONS[self.activation](x) if self.activation else x

    def _packed(self, x: Tensor, dtype: torch.dtype) -> Packed:
        weight = self.standardized_weight()
        settings = self.stride[0], self.padding[0], self.groups, self.activation
        return packed_conv(x, weight, dtype, *settings)

    def _convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        """`nn.Conv2d`; of single pixels by `linear`, whose gradients are faster."""
        pixels, matrix = x.permute(0, 2, 3, 1), weight.flatten(1)
        if (
            self.kernel_size[0] == self.groups == 1
            and pixels.is_contiguous()
            and prefers_onednn(pixels, matrix)
        ):
            return linear(pixels, matrix, self.bias).permute(0, 3, 1, 2)
        return self._conv_forward(x, weight, self.bias)

    def standardized_weight(self) -> Tensor:
        """The kernels that are applied, (C_out, C_in / groups, k, k)."""
        gain = self.gain * self.input_scale
        return _Standardize.apply(self.weight, gain, self.flavour)

    def train(self, mode: bool = True) -> "WSConv2d":
        """Set the mode, forget kept kernels; return self."""
        self._cache.clear()
        return super().train(mode)

    def _apply(self, *args, **kwargs):
        self._cache.clear()
        return super()._apply(*args, **kwargs)

    def _padding(self, size: int) -> tuple[int, int]:
        stride, kernel = self.stride[0], self.kernel_size[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2
