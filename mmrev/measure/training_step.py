"""The training step whose time and memory are measured."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

__all__ = ["loss_step", "mean_square", "training_step"]


def training_step(
    backbone: nn.Module, image: Tensor, dtype: torch.dtype | None = None
) -> Callable[[], Tensor]:
    """A forward and a backward pass of a backbone; returns as `loss_step`.

    Arguments as of `mean_square`.
    """
    return loss_step(backbone, mean_square(backbone, image, dtype))


def mean_square(
    backbone: nn.Module, image: Tensor, dtype: torch.dtype | None = None
) -> Callable[[], Tensor]:
    """A forward pass of a backbone that returns the mean squares of its levels, added.

    Args:
        backbone: returns levels.
        image: (N, C, H, W).
        dtype: of autocast in the forward pass; None without.
    """
    device = image.device.type

    def loss() -> Tensor:
        with nullcontext() if dtype is None else torch.autocast(device, dtype):
            levels = backbone(image)
        return sum(level.square().mean() for level in levels)

    return loss


def loss_step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A forward and a backward pass; gradients add up in what is allocated here.

    Args:
        model: whose parameters are trained.
        loss: the forward pass.

    Returns:
        A call that returns the loss, which nothing is kept for.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)

    def step() -> Tensor:
        found = loss()
        found.backward()
        return found.detach()

    return step
