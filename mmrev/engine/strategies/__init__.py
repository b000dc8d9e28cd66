"""How a model is spread over the processes of a run."""

from mmrev.engine.strategies.experts import ExpertParallelStrategy
from mmrev.engine.strategies.fsdp2 import FSDP2Strategy

__all__ = ["ExpertParallelStrategy", "FSDP2Strategy"]
