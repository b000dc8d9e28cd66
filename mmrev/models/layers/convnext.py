"""The ConvNeXt block."""

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmrev.models.layers.conv import Conv2d
from mmrev.models.layers.linear import Linear, linear


def _sum_of_products(rows: Tensor, x: Tensor) -> Tensor:
    """``rows.T @ x`` in the dtype of x; of fp16 in fp32, whatever the rows' size.

    Args:
        rows: gradients that no scale was applied to yet, (rows, C_out).
        x: (rows, C_in).

    Returns:
        (C_out, C_in).
    """
    if x.dtype != torch.float16:
        return rows.to(x.dtype).T @ x
    # The scale may be 1e-6: without it these sums are past fp16's range long before the
    # gradient is, and with it the addends are below it. Columns of norm 1 are neither.
    norm = torch.linalg.vector_norm(rows, dim=0, dtype=torch.float32)
    norm = norm.clamp(min=torch.finfo(torch.float32).tiny ** 0.5)
    return norm[:, None] * ((rows / norm).to(x.dtype).T @ x)


class _Remember(torch.autograd.Function):
    """Keep what the backward pass of ``scale * linear(x)`` needs, and compute it.

    The output stands for the product: it has its shape but one element of memory.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias, scale)
        return scale.new_zeros(()).expand(*x.shape[:-1], len(scale))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, scale = ctx.saved_tensors
        rows = gradient.reshape(-1, len(scale))
        to_x = to_weight = to_bias = to_scale = None
        # Under autocast x has the dtype in which the product was taken.
        if ctx.needs_input_grad[0]:
            # Of whatever memory order the gradient is, row by row, as oneDNN takes it.
            scaled = torch.mul(rows, scale, out=x.new_empty(rows.shape))
            to_x = linear(scaled, weight.to(x.dtype).T, None).view_as(x)
            del scaled
        if any(ctx.needs_input_grad[1:]):
            wide = torch.promote_types(rows.dtype, torch.float32)
            to_weight = _sum_of_products(rows, x.flatten(0, -2)).to(wide)
            to_bias = rows.sum(0, dtype=wide)
            # A backward pass may be in autocast.
            with torch.autocast(x.device.type, enabled=False):
                to_scale = torch.linalg.vecdot(to_weight, weight.to(wide))
            to_scale += to_bias * bias
            to_weight.mul_(scale[:, None])  # as large as the weights: no second one
            to_bias.mul_(scale)
        return to_x, to_weight, to_bias, to_scale


class _Product(torch.autograd.Function):
    """``scale * linear(x)``; its gradient goes to what `_Remember` returned."""

    @staticmethod
    def forward(ctx, remembered: Tensor, x, weight, bias, scale) -> Tensor:
        return scale * linear(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, None, None, None, None


def scaled_linear(x: Tensor, linear: nn.Linear, scale: Tensor) -> Tensor:
    """``scale * linear(x)`` whose backward pass does not need the linear's output.

    The gradient of the scale follows from that of the weight. A block therefore keeps
    one map less; and since everything is kept before the product is taken, torch's
    checkpointing, which stops at the last tensor it needs, does not take it again.

    Args:
        x: (..., C_in).
        linear: with a bias.
        scale: (C_out,).

    Returns:
        (..., C_out).
    """
    inputs = (x, linear.weight, linear.bias, scale)
    return _Product.apply(_Remember.apply(*inputs), *(i.detach() for i in inputs))


class ConvNeXtBlock(nn.Module):
    """Depthwise conv, LayerNorm, MLP, layer scale (arXiv 2201.03545, section 2.6).

    Args:
        channels: C.
        hidden_channels: width of the MLP, default 4 C.
        kernel_size: of the depthwise convolution, odd.
        drop_path_rate: probability of leaving out the branch of a sample.
        layer_scale_init_value: initial value of the branch's per-channel scale.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int | None = None,
        kernel_size: int = 3,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
    ):
        super().__init__()
        hidden_channels = hidden_channels or 4 * channels
        self.dwconv = Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = Linear(channels, hidden_channels, activation="gelu")
        self.pwconv2 = Linear(hidden_channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale_init_value))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        branch = self.pwconv1(self.norm(self.dwconv(x).permute(0, 2, 3, 1)))
        if self.training or torch.is_grad_enabled():
            branch = scaled_linear(branch, self.pwconv2, self.gamma)
            return x + self.drop_path(branch.permute(0, 3, 1, 2))
        branch = self.pwconv2(branch).permute(0, 3, 1, 2)
        return torch.addcmul(x, self.gamma[:, None, None], branch)
