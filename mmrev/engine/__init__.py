"""What runs a config: its hooks, optimizer parts, files and error messages."""

from .amp import BFloat16OptimWrapper
from .checkpoint import AtomicCheckpointHook, StrictCheckpointHook
from .draw import DrawPredictionsHook
from .errors import UserError, one_line_errors
from .fade import FadeHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .randomness import IterationSeedHook, seed_worker
from .record import RecordHook
from .storage import AtomicBackend
from .transfer_classes import TransferClassesHook

__all__ = [
    "AtomicBackend",
    "AtomicCheckpointHook",
    "BFloat16OptimWrapper",
    "DrawPredictionsHook",
    "FadeHook",
    "IterationSeedHook",
    "LayerDecayOptimWrapperConstructor",
    "RecordHook",
    "StrictCheckpointHook",
    "TransferClassesHook",
    "UserError",
    "one_line_errors",
    "seed_worker",
]
