"""Memory-saving training of reversible networks and of any module. Pure torch."""

from mmrev.reversible.chain import run_chain
from mmrev.reversible.column import Column, effective_gains, run_columns
from mmrev.reversible.coupling import couple
from mmrev.reversible.modes import MEMORY_MODES, in_mode, in_modes
from mmrev.reversible.recompute import recompute

__all__ = [
    "MEMORY_MODES",
    "Column",
    "couple",
    "effective_gains",
    "in_mode",
    "in_modes",
    "recompute",
    "run_chain",
    "run_columns",
]
