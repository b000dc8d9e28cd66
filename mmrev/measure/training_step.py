"""The training step whose time and memory are measured."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn


def training_step(
    backbone: nn.Module, image: Tensor, dtype: torch.dtype | None = None
) -> Callable[[], None]:
    """A forward and a backward pass; gradients add up in what is allocated here.

    Args:
        backbone: returns levels.
        image: (N, C, H, W).
        dtype: of autocast in the forward pass; None without.
    """
    for parameter in backbone.parameters():
        parameter.grad = torch.zeros_like(parameter)
    device = image.device.type

    def step() -> None:
        with nullcontext() if dtype is None else torch.autocast(device, dtype):
            levels = backbone(image)
        sum(level.square().mean() for level in levels).backward()

    return step
