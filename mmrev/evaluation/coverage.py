"""Which images a metric saw, so that none is dropped in silence."""

import sys
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

Result = TypeVar("Result", bound=Sequence)


@dataclass(frozen=True)
class Coverage:
    """How much of a data set was evaluated.

    Attributes:
        expected: images of the data set.
        evaluated: images of it that predictions came for, each counted once.
        missing: the others by id, where the metric knows ids.
    """

    expected: int
    evaluated: int
    missing: tuple[Hashable, ...] = ()

    @property
    def unreadable(self) -> int:
        """Images that no predictions came for."""
        return self.expected - self.evaluated


class CoveredMetric(BaseMetric):
    """A metric that counts each image once and tells how many it saw.

    Every result that a subclass keeps is a sequence whose first item names the image.

    Attributes:
        counts_each_image_once: tells tools/test.py that a result may come twice.
        coverage: of the last evaluation, in the main process; None before.
        protocol: what the figures mean and what computed them, for the record.
    """

    counts_each_image_once = True
    coverage: Coverage | None = None
    protocol: str

    def evaluate(self, size: int) -> dict[str, float]:
        """Evaluate what was processed.

        Args:
            size: images of the data set.

        Returns:
            The figures by name.
        """
        self._size = size
        # mmengine cuts off what exceeds the size, taking it for a sampler's padding.
        # That holds no longer when a process skipped an image: images decide here.
        return super().evaluate(sys.maxsize)

    def _once(self, results: Iterable[Result]) -> list[Result]:
        """Keep the first result of every image."""
        kept = {}
        for result in results:
            kept.setdefault(result[0], result)
        return list(kept.values())

    def _cover(self, evaluated: int, missing: Sequence[Hashable] | None = None) -> None:
        """State the coverage; warn if images are missing."""
        if missing is None:
            expected, missing = self._size, ()
        else:
            expected = evaluated + len(missing)
        self.coverage = Coverage(expected, evaluated, tuple(missing))
        if self.coverage.unreadable:
            named = f": {shortened(missing)}" if missing else ""
            MMLogger.get_current_instance().warning(
                f"{type(self).__name__}: only {evaluated} of {expected} images have "
                f"predictions{named}"
            )


def shortened(values: Iterable[object], most: int = 5) -> str:
    """List the first of many values."""
    values = list(values)
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more
