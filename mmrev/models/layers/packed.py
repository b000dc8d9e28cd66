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


def packs(x: Tensor) -> bool:
    """Whether packed layers take an input: fp32 on a CPU, that wants no gradient."""
    return (
        HAS_AVX512
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not (x.requires_grad and torch.is_grad_enabled())
    )


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


def packed_linear(weight: Tensor, activation: str | None = None) -> Packed:
    """`times` with a packed copy of weights (C_out, C_in)."""
    # The layout is good for any number of rows, whichever is named.
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
    return lambda x, bias: times(x, packed, bias, activation)


def packed_conv(
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    groups: int,
    activation: str | None = None,
) -> Packed:
    """A convolution of maps (N, C, H, W), with a packed copy of the weights.

    Args:
        x: the first map; the layout is chosen for it, and good for other sizes.
        weight: (C_out, C_in / groups, k, k).
        stride: of the convolution.
        padding: of the convolution.
        groups: of the convolution.
        activation: a name in `ACTIVATIONS`, or None.

    Returns:
        What computes it, in channels-last memory order.
    """
    weight = weight.detach()
    if weight.shape[-1] == stride == groups == 1 and not padding:
        # As a convolution its layout would suit one size of maps, and others be
        # computed ten times slower.
        run = packed_linear(weight.flatten(1), activation)
        return lambda x, bias: run(x.permute(0, 2, 3, 1), bias).permute(0, 3, 1, 2)
    settings = [padding] * 2, [stride] * 2, [1, 1], groups
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *settings, x.shape)
    name, algorithm = _FUSED[activation]

    def run(x: Tensor, bias: Tensor | None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed, bias, *settings, name, [], algorithm
        )

    return run
