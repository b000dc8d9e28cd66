"""Where a computation has to be more precise than autocast would make it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which autocast of a device rests."""
    # The meta device knows no autocast.
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def at_least_fp32(x: Tensor) -> Tensor:
    """The tensor in fp32, unless it is more precise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
