"""Optimizer wrappers and their constructor."""

from mmrev.engine.optimizers.agc import (
    AGCAmpOptimWrapper,
    AGCBFloat16OptimWrapper,
    AGCOptimWrapper,
)
from mmrev.engine.optimizers.amp import BFloat16OptimWrapper
from mmrev.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor
from mmrev.engine.optimizers.sam import (
    SAMAmpOptimWrapper,
    SAMBFloat16OptimWrapper,
    SAMOptimWrapper,
)

__all__ = [
    "AGCAmpOptimWrapper",
    "AGCBFloat16OptimWrapper",
    "AGCOptimWrapper",
    "BFloat16OptimWrapper",
    "LayerDecayOptimWrapperConstructor",
    "SAMAmpOptimWrapper",
    "SAMBFloat16OptimWrapper",
    "SAMOptimWrapper",
]
