"""The memory modes."""

from collections.abc import Sequence
from functools import partial

import torch

from mmrev.reversible.coupling import Couple, couple
from mmrev.reversible.recompute import recompute
from mmrev.reversible.reverse import Reversal

MEMORY_MODES = ("store", "recompute", "reverse")


def in_mode(memory: str) -> Couple:
    """What takes the place of `couple` in one forward pass.

    ``'store'``: plain autograd, every activation kept.
    ``'recompute'``: what every module reads is kept, and it runs again in the backward
    pass.
    ``'reverse'``: the last states and corrections of a few bits an element are kept,
    the others rebuilt, bit for bit.

    ``torch.compile`` traces every mode without a break: ``'store'`` keeps what the
    compiler chooses; ``'recompute'`` and ``'reverse'``, which it cannot invert, mark
    each module for torch's checkpointing. ``torch.export`` sees plain modules.

    Args:
        memory: the mode.

    Raises:
        ValueError: on a mode that does not exist.
    """
    if memory not in MEMORY_MODES:
        raise ValueError(
            f"memory must be one of {', '.join(MEMORY_MODES)}, got {memory!r}."
        )
    if memory == "store" or not torch.is_grad_enabled():
        return couple
    if memory == "recompute" or torch.compiler.is_compiling():
        return partial(couple, call=recompute)
    return Reversal().couple


def in_modes(
    memory: Sequence[str], above: Sequence[Sequence[int]]
) -> Couple | list[Couple]:
    """What takes the place of `couple` in one pass through columns.

    Args:
        memory: a mode for each level.
        above: for each level, those of the previous column that it reads.
    """
    ways = {mode: in_mode(mode) for mode in dict.fromkeys(memory)}
    if len(ways) == 1:
        return ways[memory[0]]
    couples = [ways[mode] for mode in memory]
    for level, mode in enumerate(memory):
        readers = [r for r, read in enumerate(above) if level in read or r == level + 1]
        # Those of another mode keep the state that they read.
        if mode == "reverse" and {memory[r] for r in readers} - {"reverse"}:
            couples[level] = partial(ways[mode], keep=True)
    return couples
