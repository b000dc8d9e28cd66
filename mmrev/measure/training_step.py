"""The training step whose time and memory are measured."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def training_step(backbone: nn.Module, image: Tensor) -> Callable[[], None]:
    """A forward and a backward pass; gradients add up in what is allocated here.

    Args:
        backbone: returns levels.
        image: (N, C, H, W).
    """
    for parameter in backbone.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step() -> None:
        sum(level.square().mean() for level in backbone(image)).backward()

    return step
