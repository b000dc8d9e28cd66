"""Operation counts."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_flops(function: Callable, *args, **kwargs) -> int:
    """Count the multiply-adds of one call, the unit in which papers print FLOPs.

    Convolutions, matrix products and attention are counted (torch.utils.flop_counter);
    normalisation, activations and other elementwise work is not. Works on the meta
    device, where it costs nothing.

    Args:
        function: what to call, for example a model.
        *args: its arguments.
        **kwargs: likewise.

    Returns:
        Multiply-adds.
    """
    with FlopCounterMode(display=False) as counter:
        function(*args, **kwargs)
    return counter.get_total_flops() // 2
