"""How large the values of a representation are, streamed."""

import math

import torch
from torch import Tensor

__all__ = ["Magnitude"]


class Magnitude:
    """Root mean square, deviation and maximum of all values that were added."""

    def __init__(self):
        self._count = 0
        self._sum = self._squares = 0.0
        self._max = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Take values, of any shape."""
        norm = torch.linalg.vector_norm(values, dtype=torch.float64)
        self._count += values.numel()
        self._sum += float(values.sum(dtype=torch.float64))
        self._squares += float(norm) ** 2
        self._max = torch.maximum(self._max.to(values), values.abs().max())

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return math.sqrt(self._squares / self._count)

    @property
    def std(self) -> float:
        """Standard deviation from the mean of all."""
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        return math.sqrt(max(variance, 0.0))

    @property
    def max(self) -> float:
        """Of the absolute values."""
        return float(self._max)
