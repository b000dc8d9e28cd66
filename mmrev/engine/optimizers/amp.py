"""Mixed precision without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from mmrev.registry import OPTIM_WRAPPERS

__all__ = ["BFloat16OptimWrapper"]


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """OptimWrapper whose forward pass runs under bfloat16 autocast on any device.

    mmengine's AmpOptimWrapper refuses the CPU. bfloat16 has the range of float32, so
    no loss scaling is needed.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast around a training step's forward pass."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
