"""Whether the suite works on a GPU, and how fast: one run of a few minutes.

`plan` says what is checked and in which order, `worker` does it, `supervisor` looks
after the worker, `report` is what is left.
"""

from mmrev.studies.gpu_check.supervisor import run

__all__ = ["run"]
