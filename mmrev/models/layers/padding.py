"""Padding of feature maps."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad H and W of (N, C, H, W) with zeros at the end, to the next multiple."""
    height, width = x.shape[-2:]
    pad = (0, -width % multiple, 0, -height % multiple)
    return F.pad(x, pad) if any(pad) else x
