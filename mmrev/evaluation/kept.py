"""What a metric keeps of every image, side by side in memory.

An array of its own lies where there is room, which is where an image has been: between
two others. The next image, for which torch wants an aligned place, fits no longer, and
a test whose main process reads the images took as much memory as all of them together
(glibc 2.36). So nothing of an image's is left between the iterations but numbers in
large pieces of memory, and where they begin.
"""

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Kept", "KeptArrays"]

_ROOM = 1 << 22
_ALIGNED = 8  # bytes, of the largest numbers


class Kept(NamedTuple):
    """An array that is kept."""

    room: np.ndarray
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def array(self) -> np.ndarray:
        """The array; no object of numpy's stands for it before."""
        size = math.prod(self.shape) * self.dtype.itemsize
        place = self.room[self.start : self.start + size]
        return place.view(self.dtype).reshape(self.shape)


class KeptArrays:
    """Copies arrays into large pieces of memory; one goes with the last array in it."""

    def __init__(self) -> None:
        self._room, self._end = np.empty(0, np.uint8), 0

    def keep(self, array: np.ndarray) -> Kept:
        """Copy an array of numbers."""
        if self._end + array.nbytes > len(self._room):
            self._room = np.empty(max(array.nbytes, _ROOM), np.uint8)
            self._end = 0
        kept = Kept(self._room, self._end, array.shape, array.dtype)
        kept.array()[...] = array
        self._end += -(-array.nbytes // _ALIGNED) * _ALIGNED
        return kept
