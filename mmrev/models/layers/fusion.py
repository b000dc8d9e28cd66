"""The algebra of linear layers: several convolutions as a single one.

Everything is computed in fp64. A composition is refused where it would hold in the
interior of a map only: a second convolution with padding reads zeros beyond the first
one's output, while the composed kernel would read what the first one yields there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrev.models.layers.conv import Conv2d
from mmrev.models.layers.faded import FadedReLU, largest_fade


@dataclass(frozen=True)
class Kernel:
    """A convolution with its values in fp64; on the meta device, with its shape only.

    Attributes:
        weight: (C_out, C_in / groups, k, k).
        bias: (C_out,), or None.
        stride: step between outputs, input pixels.
        padding: zeros around the input, pixels.
        groups: as of ``nn.Conv2d``.
    """

    weight: Tensor
    bias: Tensor | None
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def size(self) -> int:
        """Height and width, k."""
        return self.weight.shape[-1]

    @property
    def bias_or_zeros(self) -> Tensor:
        """(C_out,)."""
        zeros = self.weight.new_zeros(len(self.weight))
        return zeros if self.bias is None else self.bias

    @classmethod
    def of(cls, layers: nn.Module | Iterable[nn.Module]) -> "Kernel":
        """The kernel that does what linear layers do one after the other, in eval mode.

        Args:
            layers: a convolution, or convolutions, each followed by any number of batch
                norms and faded activations.

        Raises:
            ValueError: if a fade is not finished, a layer is not linear, or the layers
                compose in the interior of a map only.
        """
        if isinstance(layers, nn.Conv2d):
            return cls._of_conv(layers)
        kernels: list[Kernel] = []
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                kernels.append(cls._of_conv(layer))
            elif isinstance(layer, _BatchNorm):
                kernels[-1] = kernels[-1].normalised(layer)
            elif isinstance(layer, FadedReLU):
                _check_finished(layer)
            else:
                raise ValueError(
                    "Kernel: expected convolutions, batch norms and faded activations, "
                    f"got {type(layer).__name__}. It has to stay outside."
                )
        return reduce(Kernel.then, kernels)

    @classmethod
    def _of_conv(cls, conv: nn.Conv2d) -> "Kernel":
        return cls(
            conv.weight.detach().double(),
            None if conv.bias is None else conv.bias.detach().double(),
            conv.stride[0],
            conv.padding[0],
            conv.groups,
        )

    def normalised(self, norm: _BatchNorm) -> "Kernel":
        """This convolution, then a batch norm with its running statistics."""
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.affine:
            scale = scale * norm.weight.detach().double()
        bias = (self.bias_or_zeros - norm.running_mean.double()) * scale
        if norm.affine:
            bias = bias + norm.bias.detach().double()
        return replace(self, weight=self.weight * scale[:, None, None, None], bias=bias)

    def precedes(self, second: "Kernel") -> bool:
        """Whether this one, then `second`, is one kernel up to the border of a map."""
        pointwise = self.size == 1 and self.padding == 0 and self.bias is None
        return second.padding == 0 or pointwise

    def then(self, second: "Kernel") -> "Kernel":
        """This convolution, then another one, as a single one.

        Its size is ``k1 + (k2 - 1) * s1``, its stride ``s1 * s2``, its padding
        ``p1 + s1 * p2``.

        Raises:
            ValueError: if that holds in the interior of a map only, see `precedes`.
        """
        if not self.precedes(second):
            raise ValueError(
                "Kernel: expected a second convolution without padding, or a first one "
                "of size 1 without bias and padding; got size "
                f"{self.size} before padding {second.padding}. Pad once, before both."
            )
        size = self.size + (second.size - 1) * self.stride
        shape = (len(second.weight), self.weight.shape[1], size, size)
        weight = self.weight.new_zeros(shape)
        for y in range(second.size):
            for x in range(second.size):
                taps = torch.einsum(
                    "om,mihw->oihw", second.weight[:, :, y, x], self.weight
                )
                top, left = y * self.stride, x * self.stride
                weight[..., top : top + self.size, left : left + self.size] += taps
        bias = second.bias
        if self.bias is not None:
            bias = second.bias_or_zeros + second.weight.sum((2, 3)) @ self.bias
        return Kernel(
            weight,
            bias,
            self.stride * second.stride,
            self.padding + self.stride * second.padding,
        )

    def plus_identity(self) -> "Kernel":
        """This convolution plus its input, which it is centred on.

        What it loses of the map for want of padding, the input must lose, too.
        """
        weight, centre = self.weight.clone(), self.size // 2
        weight[:, :, centre, centre] += torch.eye(len(weight)).to(weight)
        return replace(self, weight=weight)

    def shape_only(self) -> "Kernel":
        """The same on the meta device."""
        bias = None if self.bias is None else self.bias.to("meta")
        return replace(self, weight=self.weight.to("meta"), bias=bias)

    def to_conv(self, like: Tensor) -> Conv2d:
        """The convolution as a layer.

        Args:
            like: gives dtype and device. If it is on the meta device, so that there
                are no values, the layer is where torch makes new ones, and initialised
                by torch.
        """
        out_channels, in_channels = self.weight.shape[:2]
        conv = Conv2d(
            in_channels * self.groups,
            out_channels,
            self.size,
            self.stride,
            self.padding,
            groups=self.groups,
            bias=self.bias is not None,
            device=None if like.is_meta else like.device,
            dtype=like.dtype,
        )
        if not like.is_meta:
            with torch.no_grad():
                conv.weight.copy_(self.weight)
                if self.bias is not None:
                    conv.bias.copy_(self.bias)
        return conv


def cheapest_grouping(kernels: Sequence[Kernel]) -> list[int]:
    """Which neighbours of a chain to compose, for the fewest multiplications.

    Composing often costs more: two 3x3 of equal width make a 5x5, 25 products for 18.
    What a map loses or gains at its border is not counted.

    Args:
        kernels: applied one after the other, with nothing between them.

    Returns:
        Lengths of the groups, in order; only kernels that compose exactly share one.
    """
    shapes = [kernel.shape_only() for kernel in kernels]
    # Of the first n kernels: products for a pixel of the chain's input, and groups.
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for start, composed in enumerate(shapes):
        for end in range(start + 1, len(shapes) + 1):
            if end > start + 1:
                if not composed.precedes(shapes[end - 1]):
                    break
                composed = composed.then(shapes[end - 1])
            stride = math.prod(kernel.stride for kernel in kernels[:end])
            cost = best[start][0] + composed.weight.numel() / stride**2
            if end not in best or cost <= best[end][0]:
                best[end] = (cost, [*best[start][1], end - start])
    return best[len(shapes)][1]


def _check_finished(activation: FadedReLU) -> None:
    if (fade := largest_fade(activation)) > 0:
        raise ValueError(
            f"Kernel: expected activations whose fade is finished (0), got {fade:.3g}. "
            "Train until it is, see mmrev.FadeHook."
        )
