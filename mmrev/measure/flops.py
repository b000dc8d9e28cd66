"""Operation counts."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _attention_flops(query: tuple, key: tuple, value: tuple, *_, **__) -> int:
    return sdpa_flop_count(query, key, value)


# torch's counter lacks the CPU kernel of scaled_dot_product_attention.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops
}


@torch.no_grad()
def count_flops(function: Callable, *args, **kwargs) -> int:
    """Count the multiply-adds of one call, the unit in which papers print FLOPs.

    Convolutions, matrix products and attention are counted (torch.utils.flop_counter);
    normalisation, activations and other elementwise work is not. Works on the meta
    device, where it costs nothing.

    Args:
        function: what to call, for example a model.
        *args: its arguments.
        **kwargs: its keyword arguments.

    Returns:
        Multiply-adds.
    """
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        function(*args, **kwargs)
    return counter.get_total_flops() // 2
