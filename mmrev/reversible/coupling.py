"""The coupling: one step of a network that can be run backwards.

Every state of such a network is ``module(*reads) + shortcut * reads[0] + gain * old``.
Whoever has the state and what it reads has `old`, too, up to rounding. `couple` is
what every memory mode computes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Couple = Callable[..., Tensor]


def couple(
    module: nn.Module,
    reads: Sequence[Tensor],
    gain: Tensor,
    old: Tensor | None,
    shortcut: Tensor | None = None,
    keep: bool = False,
    call: Callable[..., Tensor] = lambda module, *inputs: module(*inputs),
) -> Tensor:
    """Compute a state.

    Args:
        module: called with what is read, gives a tensor of the state's shape.
        reads: states that are still known when `old` is wanted back.
        gain: factor of `old`, broadcastable to it.
        old: the state that the new one takes the place of; None where there is none.
        shortcut: factor of ``reads[0]``, if that is added, too.
        keep: whether something else keeps `old` anyway; for `Reversal`.
        call: how the module is called.

    Returns:
        The state, in the widest dtype of its terms: full precision under autocast,
        where `old`, or without it the gain, has that.
    """
    return forward(update(call(module, *reads), reads, shortcut), gain, old)


def update(result: Tensor, reads: Sequence[Tensor], shortcut: Tensor | None) -> Tensor:
    """All of a state but `old`, from what the module gave."""
    return result if shortcut is None else torch.addcmul(result, shortcut, reads[0])


def forward(update: Tensor, gain: Tensor, old: Tensor | None) -> Tensor:
    """The state that follows `old`."""
    if old is None:
        return update.to(torch.promote_types(update.dtype, gain.dtype))
    return torch.addcmul(update, gain, old)


def inverse(state: Tensor, update: Tensor, gain: Tensor, out: Tensor) -> Tensor:
    """What `old` was, up to rounding, written to a tensor of its layout and dtype."""
    return torch.sub(state, update, out=out).div_(gain)
