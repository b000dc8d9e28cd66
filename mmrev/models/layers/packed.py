"""Layers by oneDNN, with weights in its own layout and activations within.

By the operators that torch.compile freezes layers to. Given plain weights, torch has
them reordered in every call, which takes longer than the products where a map has few
pixels. They know no gradients.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

# What oneDNN gains was measured there alone.
HAS_AVX512 = (
    torch.backends.cpu.get_cpu_capability() == "AVX512"
    and torch.backends.mkldnn.is_available()
)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}
# The operators' names: activation and algorithm.
_FUSED = {
    None: ("none", None),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
}

Packed = Callable[[Tensor, Tensor | None], Tensor]
"""Computes a layer of an input and a bias, (C_out,) or None."""


# Those that the processor multiplies by itself.
_DTYPES = [torch.float32]
if HAS_AVX512 and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    _DTYPES.append(torch.bfloat16)


def packed_dtype(x: Tensor) -> torch.dtype | None:
    """In what packed layers compute of an input, as autocast would; None: they do not.

    They take inputs on a CPU that want no gradient.
    """
    dtype = x.dtype
    if torch.is_autocast_enabled("cpu") and dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
    wants_gradient = x.requires_grad and torch.is_grad_enabled()
    fits = HAS_AVX512 and x.device.type == "cpu" and x.numel() > 0 and dtype in _DTYPES
    return dtype if fits and not wants_gradient else None


def times(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None
) -> Tensor:
    """``F.linear`` and an activation.

    Args:
        x: (..., C_in).
        weight: (C_out, C_in), plain or packed.
        bias: (C_out,) or None.
        activation: a name in `ACTIVATIONS`, or None.

    Returns:
        (..., C_out).
    """
    name, algorithm = _FUSED[activation]
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)


def packed_linear(
    weight: Tensor, dtype: torch.dtype, activation: str | None = None
) -> Packed:
    """`times` with a packed copy of weights.

    Args:
        weight: (C_out, C_in).
        dtype: of `packed_dtype`.
        activation: a name in `ACTIVATIONS`, or None.
    """
    weight = weight.detach().to(dtype)
    # The layout is good for any number of rows, whichever is named.
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)

    def run(x: Tensor, bias: Tensor | None) -> Tensor:
        return times(x.to(dtype), packed, _to(bias, dtype), activation)

    return run


def packed_conv(
    x: Tensor,
    weight: Tensor,
    dtype: torch.dtype,
    stride: int,
    padding: int,
    groups: int,
    activation: str | None = None,
) -> Packed:
    """A convolution of maps (N, C, H, W), with a packed copy of the weights.

    Args:
        x: the first map; the layout is chosen for it, and good for other sizes.
        weight: (C_out, C_in / groups, k, k).
        dtype: of `packed_dtype`.
        stride: of the convolution.
        padding: of the convolution.
        groups: of the convolution.
        activation: a name in `ACTIVATIONS`, or None.

    Returns:
        What computes it, in channels-last memory order.
    """
    if weight.shape[-1] == stride == groups == 1 and not padding:
        # As a convolution its layout would suit one size of maps, and others be
        # computed ten times slower.
        product = packed_linear(weight.flatten(1), dtype, activation)
        return lambda x, bias: product(x.permute(0, 2, 3, 1), bias).permute(0, 3, 1, 2)
    settings = [padding] * 2, [stride] * 2, [1, 1], groups
    weight = weight.detach().to(dtype)
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *settings, x.shape)
    name, algorithm = _FUSED[activation]

    def run(x: Tensor, bias: Tensor | None) -> Tensor:
        x = x.to(dtype, memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed, _to(bias, dtype), *settings, name, [], algorithm
        )

    return run


def _to(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.to(dtype)
