"""Which images a metric saw, so that none is dropped in silence."""

import sys
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmrev.errors import shortened
from mmrev.evaluation.kept import Kept, KeptArrays

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


def image_key(sample: Any) -> str:
    """What tells an image from the others of its data set: its path, or its number.

    Args:
        sample: Of a model, as data element or dictionary; or what a data set lists.

    Raises:
        ValueError: It has neither ``img_path`` nor ``sample_idx``.
    """
    for name in ("img_path", "sample_idx"):
        if (value := sample.get(name)) is not None:
            return str(value)
    raise ValueError(
        "expected images with img_path or sample_idx, got neither; add one of them to "
        "meta_keys of the last step of the test pipeline."
    )


def image_keys(dataset: Any) -> list[str]:
    """The keys of the images of a data set that wraps no other, in their order."""
    # Where there is no path the number tells, and what the data set says of an image
    # may hold its pixels.
    if not len(dataset) or dataset.get_data_info(0).get("img_path") is None:
        return [str(number) for number in range(len(dataset))]
    return [image_key(dataset.get_data_info(n)) for n in range(len(dataset))]


def first_of_each(results: Iterable[Result]) -> list[Result]:
    """Keep the first result of every image, which the first item of each names.

    Distributed samplers repeat images to fill a batch; whatever counts results goes by
    this, so that figures and stored predictions are of the same ones.
    """
    kept: dict[Hashable, Result] = {}
    for result in results:
        kept.setdefault(result[0], result)
    return list(kept.values())


def refuse_shared_ids(images: Iterable[tuple[Hashable, str | None]]) -> None:
    """Refuse images that have one id, as those of joined data sets may.

    Args:
        images: id and path of each, as often as it came; None without a path.

    Raises:
        ValueError: names the two.
    """
    paths: dict[Hashable, str | None] = {}
    for image, path in images:
        if paths.setdefault(image, path) != path:
            raise ValueError(
                f"expected an id of its own for every image, got {image} for "
                f"{paths[image]} and {path}; number the images of the data sets that "
                "are tested together anew."
            )


class CoveredMetric(BaseMetric):
    """A metric that counts each image once and tells how many it saw.

    Every result that a subclass keeps is a tuple whose first item names the image, and
    whose arrays are `Kept`; `compute_metrics` gets them as arrays.

    Attributes:
        counts_each_image_once: tells tools/test.py that a result may come twice.
        coverage: of the last evaluation, in the main process; None before.
        remarks: of the last evaluation: what a reader of its figures must know of the
            data.
        protocol: what the figures mean and what computed them, for the record.
    """

    counts_each_image_once = True
    coverage: Coverage | None = None
    remarks: Sequence[str] = ()
    protocol: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept = KeptArrays()

    def evaluate(self, size: int) -> dict[str, float]:
        """Evaluate what was processed.

        Args:
            size: images of the data set.

        Returns:
            The figures by name.
        """
        self._size = size
        self.results = [
            tuple(one.array() if isinstance(one, Kept) else one for one in result)
            for result in self.results
        ]
        # mmengine cuts off what exceeds the size, taking it for a sampler's padding.
        # That holds no longer when a process skipped an image: images decide here.
        return super().evaluate(sys.maxsize)

    def _remark(self, mean: str, absent: Sequence[str], ignored: str) -> None:
        """State what the figures are means of; warn of classes without ground truth.

        Args:
            mean: over which classes.
            absent: names of those that occur in no ground truth.
            ignored: what of the ground truth does not count.
        """
        lacking = f"; in no ground truth: {shortened(absent)}" if absent else ""
        text = f"{type(self).__name__}: {mean}{lacking}; {ignored}"
        logger = MMLogger.get_current_instance()
        (logger.warning if absent else logger.info)(text)
        self.remarks = [text]

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
