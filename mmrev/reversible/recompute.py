"""Exact recomputation: torch's own checkpointing with buffers guarded."""

from contextlib import nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmrev.reversible.replay import frozen_buffers


def recompute(module: nn.Module, *inputs: Tensor):
    """Call ``module(*inputs)``, keeping only the inputs for the backward pass.

    Random numbers, autocast and buffers (BatchNorm statistics) are as in one ordinary
    call; gradients equal those of plain autograd.

    Args:
        module: what to call.
        *inputs: its inputs.

    Returns:
        What the module returns.
    """
    return checkpoint(
        module,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), frozen_buffers(module)),
    )
