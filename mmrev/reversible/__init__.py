"""Memory-saving training of column networks and of any module. Pure torch."""

from mmrev.reversible.column import Column, effective_gain, run_columns
from mmrev.reversible.engine import MEMORY_MODES, ColumnEngine
from mmrev.reversible.recompute import recompute

__all__ = [
    "MEMORY_MODES",
    "Column",
    "ColumnEngine",
    "effective_gain",
    "recompute",
    "run_columns",
]
