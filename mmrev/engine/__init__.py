"""What runs a config: its hooks, optimizer parts, files and error messages."""

from .agc import AGCAmpOptimWrapper, AGCBFloat16OptimWrapper, AGCOptimWrapper
from .amp import BFloat16OptimWrapper
from .checkpoint import AtomicCheckpointHook, StrictCheckpointHook
from .draw import DrawPredictionsHook
from .errors import UserError, one_line_errors
from .fade import FadeHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .randomness import IterationSeedHook, seed_worker
from .record import RecordHook
from .sam import SAMAmpOptimWrapper, SAMBFloat16OptimWrapper, SAMOptimWrapper
from .stitching import StitchFitHook, StitchSamplerHook, StitchTestLoop
from .storage import AtomicBackend
from .transfer_classes import TransferClassesHook

__all__ = [
    "AGCAmpOptimWrapper",
    "AGCBFloat16OptimWrapper",
    "AGCOptimWrapper",
    "AtomicBackend",
    "AtomicCheckpointHook",
    "BFloat16OptimWrapper",
    "DrawPredictionsHook",
    "FadeHook",
    "IterationSeedHook",
    "LayerDecayOptimWrapperConstructor",
    "RecordHook",
    "SAMAmpOptimWrapper",
    "SAMBFloat16OptimWrapper",
    "SAMOptimWrapper",
    "StitchFitHook",
    "StitchSamplerHook",
    "StitchTestLoop",
    "StrictCheckpointHook",
    "TransferClassesHook",
    "UserError",
    "one_line_errors",
    "seed_worker",
]
