"""Chains of residual blocks in which every state can be found from the next two.

``y[i] = F_i(y[i-1]) + a * y[i-1] + b * y[i-2]``, where the block computes
``F_i(y) + y``. Sources: Dr2Net, arXiv 2401.04105, section 3 (there the second stream is
kept as ``b * y[i-2]`` and has to be divided once more): with (a, b) = (1, 0) the
ordinary network, which fine-tuning moves towards b = 1. With (0, 1), and branches for
blocks, the two streams of Rev-ViT, arXiv 2302.09560 and RevNet, arXiv 1707.04585.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from mmrev.reversible.coupling import Couple, couple


def run_chain(
    blocks: Iterable[nn.Module],
    x: Tensor,
    coefficients: Tensor,
    couple: Couple = couple,
) -> tuple[Tensor, Tensor]:
    """Run blocks one after the other.

    Args:
        blocks: each from a tensor to one of the same shape, its input added in it.
        x: the input, which is ``y[0]`` and ``y[-1]``.
        coefficients: a and b, (2,).
        couple: how states are computed, see `in_mode`.

    Returns:
        The last two states, the last one first.
    """
    a, b = coefficients.unbind()
    older, newer = x, x
    for block in blocks:
        older, newer = newer, couple(block, (newer,), b, older, shortcut=a - 1)
    return newer, older
