"""What modules share whose residual blocks can be coupled, so that they are invertible.

Source: Dr2Net, arXiv 2401.04105; see `mmrev.reversible.run_chain`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmrev.reversible import in_mode, run_chain

# Where each coupling starts: a and b of `run_chain`.
COUPLINGS = {"dual": (1.0, 0.0), "two-stream": (0.0, 1.0)}
# Inversion keeps a chain's first state and its last two.
SHORTEST = 3


class Coupled(nn.Module):
    """A module with coefficients of couplings.

    Attributes:
        coupling: None, or a name in `COUPLINGS`.
        coefficients: a and b, (2,), in the state dict; only with a coupling.
    """

    coupling: str | None = None

    def _start_coupling(self) -> None:
        if self.coupling:
            self.register_buffer("coefficients", torch.tensor(COUPLINGS[self.coupling]))

    @property
    def is_chained(self) -> bool:
        """Whether a block may read more than the feature before it."""
        ordinary = COUPLINGS["dual"]
        return bool(self.coupling) and tuple(self.coefficients.tolist()) != ordinary

    def run_links(
        self, links: Sequence[nn.Module], x: Tensor, memory: str
    ) -> tuple[Tensor, Tensor]:
        """Run blocks as one chain in a memory mode.

        Args:
            links: of `run_chain`; those of a chain too short are not inverted.
            x: the feature before.
            memory: one of `MEMORY_MODES`.

        Returns:
            The last two states, the last one first.
        """
        if memory == "reverse" and len(links) < SHORTEST:
            memory = "recompute"
        return run_chain(links, x, self.coefficients, in_mode(memory))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Take ordinary weights for the start of 'dual', refuse other networks'."""
        key = f"{prefix}coefficients"
        ordinary = COUPLINGS["dual"]
        start = COUPLINGS[self.coupling] if self.coupling else ordinary
        theirs = tuple(state_dict.get(key, torch.tensor(ordinary)).tolist())
        if theirs != start and self.coupling != "dual":
            raise ValueError(
                f"{type(self).__name__}: the weights are those of a network with "
                f"coefficients a, b = {theirs}, this one has coupling="
                f"{self.coupling!r}, which has {start}. "
                + (
                    "Set coupling='dual'."
                    if self.coupling is None
                    else "Train it from scratch, or set coupling='dual'."
                )
            )
        if self.coupling:
            state_dict[key] = torch.tensor(theirs)
        else:
            state_dict.pop(key, None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
