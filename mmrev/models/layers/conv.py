"""Convolutions of feature maps."""

from functools import partial

from torch import Tensor, nn

from mmrev.models.layers.packed import packed_conv, packed_dtype
from mmrev.models.layers.parameter_cache import ParameterCache


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` of square kernels, packed in evaluation mode without gradients.

    There, on a CPU with AVX-512, a copy of the weights is kept in oneDNN's layout, and
    results are in channels-last memory order.
    """

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self._packed = ParameterCache()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        used = [p for p in (self.weight, self.bias) if p is not None]
        keeps = not self.training and self._packed.keeps(used)
        if keeps and (dtype := packed_dtype(x)):
            settings = self.stride[0], self.padding[0], self.groups
            pack = partial(packed_conv, x, self.weight, dtype, *settings)
            return self._packed.get([self.weight], pack, form=dtype)(x, self.bias)
        return super().forward(x)

    def train(self, mode: bool = True) -> "Conv2d":
        """Set the mode, forget the copy; return self."""
        self._packed.clear()
        return super().train(mode)
