"""What the memory modes cost, and whether their gradients are those of plain autograd.

`networks` says what is measured, `figures` measures it, `reports` prints tables, `plot`
draws.
"""

from mmrev.studies.memory_modes.reports import add_arguments, run

__all__ = ["add_arguments", "run"]
