"""Linear layers of feature maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrev.models.layers.keeping import is_traced

# MKL leaves AVX-512 unused on AMD's processors; without it, both are as fast.
HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
# Rows from which oneDNN is faster; its gradients reorder the weights, which takes more.
LEAST_ROWS, LEAST_ROWS_WITH_GRADIENT = 64, 256


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear``; with AVX-512 by oneDNN, as a 1x1 convolution, channels last.

    torch multiplies fp32 matrices with MKL, which there is half as fast on AMD's
    processors.

    Args:
        x: (..., C_in).
        weight: (C_out, C_in).
        bias: (C_out,) or None.

    Returns:
        (..., C_out).
    """
    if is_traced():  # what is recorded runs elsewhere, and for other numbers of rows
        return F.linear(x, weight, bias)
    rows = x.numel() // x.shape[-1]
    least = LEAST_ROWS_WITH_GRADIENT if torch.is_grad_enabled() else LEAST_ROWS
    if (
        not HAS_AVX512
        or x.device.type != "cpu"
        or x.dtype != torch.float32
        or weight.dtype != torch.float32
        or torch.is_autocast_enabled("cpu")
        or rows < least
    ):
        return F.linear(x, weight, bias)
    pixels = x.reshape(1, 1, rows, -1).permute(0, 3, 1, 2)
    result = F.conv2d(pixels, weight[:, :, None, None], bias)
    return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C_in) to (..., C_out)."""
        return linear(x, self.weight, self.bias)
