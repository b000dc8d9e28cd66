"""Runs the blocks of other toolboxes' anchors in a memory mode.

Backbones of mmrev do that themselves; of the others nothing is asked but their blocks.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from mmrev.models.layers import Coupled
from mmrev.reversible import recompute


class Modes:
    """How blocks run.

    Args:
        owner: whose `memory`, one of `MEMORY_MODES`, and coefficients hold, as they are
            when a block runs; None keeps every activation and couples nothing.
    """

    def __init__(self, owner: Coupled | None = None):
        self.owner = owner

    @property
    def is_chained(self) -> bool:
        """Whether a block may read more than the feature before it."""
        return self.owner is not None and self.owner.is_chained

    def call(self, module: nn.Module, x: Tensor) -> Any:
        """Call a module that stands alone."""
        if self.owner is None or self.owner.memory == "store":
            return module(x)
        return recompute(module, x)

    def run(
        self,
        blocks: Iterable[nn.Module],
        x: Tensor,
        couples: Callable[[nn.Module], bool],
    ) -> Tensor:
        """Run blocks one after the other.

        Args:
            blocks: each from a tensor to a tensor.
            x: what the first one takes.
            couples: whether a block can be part of a chain, see `Anchor.couples`; those
                next to each other are one chain.

        Returns:
            What the last one gives.
        """
        if self.owner is None or not self.owner.coupling:
            couples = _never
        for chain, coupled in _chains(blocks, couples):
            if coupled:
                x, _ = self.owner.run_links(chain, x, self.owner.memory)
            else:
                x = self.call(*chain, x)
        return x


class OfSize(nn.Module):
    """A module that takes tokens and the size of their map, for maps of one size."""

    def __init__(self, module: nn.Module, size: tuple[int, int]):
        super().__init__()
        self.module, self.size = module, size

    def forward(self, x: Tensor) -> Any:
        """(N, H * W, C) to what the module gives."""
        return self.module(x, self.size)


def longest_chain(
    blocks: Iterable[nn.Module], couples: Callable[[nn.Module], bool]
) -> int:
    """Blocks of the longest chain among blocks; 0 if none couples."""
    found = _chains(blocks, couples)
    return max((len(chain) for chain, coupled in found if coupled), default=0)


def _chains(
    blocks: Iterable[nn.Module], couples: Callable[[nn.Module], bool]
) -> list[tuple[list[nn.Module], bool]]:
    """Blocks that couple, with those next to them; every other one for itself."""
    found: list[tuple[list[nn.Module], bool]] = []
    for block in blocks:
        coupled = couples(block)
        if coupled and found and found[-1][1]:
            found[-1][0].append(block)
        else:
            found.append(([block], coupled))
    return found


def _never(_: nn.Module) -> bool:
    return False
