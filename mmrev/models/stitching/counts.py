"""Parameters and operations of a stitch."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from mmrev.measure.flops import count_flops
from mmrev.models.stitching.stitched_backbone import StitchedBackbone

__all__ = ["count_stitch_params", "run_stitch", "stitch_flops"]


def count_stitch_params(
    model: StitchedBackbone, stitch: int, as_reference: bool = False
) -> int:
    """Parameters that a stitch uses, each once.

    Args:
        model: with the stitch.
        stitch: id.
        as_reference: leave out what the code of SN-Net leaves out: adapters, and of a
            front anchor the class token and position embedding (DeiT) and the merging
            of patches (Swin).

    Returns:
        The number.
    """
    left_out: list[nn.Module | nn.Parameter] = []
    if as_reference:
        left_out.append(model.adapters)
        for anchor in model.routes[stitch].anchors[:-1]:
            left_out += model.runners[anchor].uncounted_parts()
    excluded = {id(p) for part in left_out for p in _parameters(part)}
    used = model.parameters_of(stitch)
    return sum(p.numel() for p in used if id(p) not in excluded)


def _parameters(part: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return [part] if isinstance(part, nn.Parameter) else list(part.parameters())


def stitch_flops(
    model: StitchedBackbone, stitches: Sequence[int], image_size: int
) -> list[int]:
    """Multiply-adds of an image by stitches, counted on the meta device.

    Args:
        model: itself untouched.
        stitches: ids.
        image_size: height and width, pixels.
    """
    # Copied straight to the meta device: no second copy of the weights beside them.
    memo = {id(p): nn.Parameter(p.to("meta")) for p in model.parameters()}
    memo |= {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    twin = copy.deepcopy(model, memo).eval()
    image = torch.empty(1, 3, image_size, image_size, device="meta")
    return [count_flops(run_stitch, twin, stitch, image) for stitch in stitches]


def run_stitch(model: StitchedBackbone, stitch: int, image: torch.Tensor) -> None:
    """Run one stitch on a batch of images, (N, 3, H, W)."""
    model.set_stitch(stitch)
    model(image)
