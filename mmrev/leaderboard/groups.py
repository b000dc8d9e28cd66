"""Records that differ in the seed alone, and what their spread says of a ranking."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmrev.leaderboard.fingerprint import config_sha256
from mmrev.leaderboard.record import MeasuredRecord, Record, main_metric
from mmrev.leaderboard.tasks import MAIN_METRICS, Task

__all__ = ["Group", "grouped", "ranks", "selected"]

# Two groups are told apart if Welch's t-test finds chance less likely than this.
_CHANCE = 0.05


@dataclass(frozen=True)
class Group:
    """Runs of one setting with several seeds, or a single record.

    Attributes:
        records: One of each training, newest last.
    """

    records: tuple[Record, ...]

    @property
    def newest(self) -> Record:
        """The record that stands for the group."""
        return self.records[-1]

    def values(self, metric: str) -> list[float]:
        """The figures of all runs that have one."""
        values = (record.metrics.get(metric) for record in self.records)
        return [value for value in values if value is not None]

    def mean(self, metric: str) -> float | None:
        """Mean over the runs; None if none has the metric."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Sample standard deviation over the runs; None below two of them."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None


def selected(
    records: Iterable[Record],
    task: Task | None = None,
    dataset: str | None = None,
    family: str | None = None,
    kind: str = "all",
    params: tuple[float, float] | None = None,
) -> list[Record]:
    """Filter records.

    Args:
        records: Any.
        task: Those with this task's main metric: a model of masks has boxes, too.
        dataset: Name of the data, upper or lower case.
        family: Of the backbone, upper or lower case.
        kind: 'measured', 'published' or 'all'.
        params: Least and most, in millions; records without a number are left out.
    """
    tests: list[Callable[[Record], bool]] = []
    if task:
        tests.append(
            lambda record: record.task == task or MAIN_METRICS[task] in record.metrics
        )
    if dataset:
        tests.append(lambda record: record.dataset.name.lower() == dataset.lower())
    if family:
        tests.append(lambda record: record.model.family.lower() == family.lower())
    if kind != "all":
        tests.append(lambda record: record.kind == kind)
    if params:
        least, most = (bound * 1e6 for bound in params)
        tests.append(lambda record: least <= (record.model.params or -1) <= most)
    return [record for record in records if all(test(record) for test in tests)]


def grouped(records: Iterable[Record]) -> list[Group]:
    """Group measured records of one setting; published ones stand alone.

    One setting: the config but for its seeds, data, stitch, augmentation and length of
    training. Of several tests of one checkpoint the last counts.

    Args:
        records: Oldest first.
    """
    groups: dict[tuple | str, dict[str, Record]] = {}
    for record in records:
        if isinstance(record, MeasuredRecord):
            tests = groups.setdefault(_setting(record), {})
            # Again at the end: the order is that of the tests.
            tests.pop(record.checkpoint.sha256, None)
            tests[record.checkpoint.sha256] = record
        else:
            groups[record.id] = {record.id: record}
    return [Group(tuple(tests.values())) for tests in groups.values()]


def ranks(groups: Sequence[Group], task: Task | None = None) -> list[int | None]:
    """Rank groups by the main metric, among those of the same test.

    The rank is one more than the number of groups that are better beyond noise: by
    Welch's t-test of the runs, at 5 %. So groups within noise share a rank. A single
    run tells nothing of its noise and gets none; nor does a published figure, or a test
    that left out images.

    Args:
        groups: Any; data, protocols and metric decide which are compared.
        task: Whose main metric counts; None takes each record's own.

    Returns:
        A rank for each group, or None.
    """
    tests = [_test_of(group, task) for group in groups]
    return [
        None
        if test is None
        else 1
        + sum(
            _better(other, group, test[0])
            for other, compared in zip(groups, tests, strict=True)
            if compared == test
        )
        for group, test in zip(groups, tests, strict=True)
    ]


def _setting(record: MeasuredRecord) -> tuple:
    config = dict(record.config.resolved)
    if isinstance(config.get("randomness"), dict):
        seed = config["randomness"].get("seed")
        # A sweep keeps what each seed starts from in a folder named by it.
        config = _without_folder(config, f"/seed-{seed}/")
        config["randomness"] = {**config["randomness"], "seed": None}
    training = record.training
    return (
        *(record.config.name, config_sha256(config), record.config.tta),
        *(record.dataset, tuple(record.protocols), record.model.stitch),
        *(training.epochs, training.iterations),
    )


def _without_folder(value: Any, folder: str) -> Any:
    """A part of a config whose paths do not tell one folder from another."""
    if isinstance(value, dict):
        return {key: _without_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folder(item, folder) for item in value]
    return value.replace(folder, "/") if isinstance(value, str) else value


def _test_of(group: Group, task: Task | None) -> tuple | None:
    record = group.newest
    metric = MAIN_METRICS[task] if task else main_metric(record)
    if not isinstance(record, MeasuredRecord) or len(group.values(metric)) < 2:
        return None
    if record.incomplete:
        return None
    # Test-time augmentation is a way to be better, and is compared.
    return metric, record.dataset.fingerprint, tuple(record.protocols)


def _better(one: Group, other: Group, metric: str) -> bool:
    means = one.mean(metric), other.mean(metric)
    if means[0] <= means[1]:
        return False
    spreads = one.std(metric), other.std(metric)
    if spreads == (0, 0):  # the test divides by them
        return True
    counts = len(one.values(metric)), len(other.values(metric))
    return _chance(means[0] - means[1], spreads, counts) < _CHANCE


def _chance(
    difference: float, spreads: tuple[float, float], counts: tuple[int, int]
) -> float:
    """How likely noise alone makes such a difference of means: Welch's t-test."""
    # Of scipy.stats, which has the test, the import takes twice as long; and where no
    # setting has two seeds, nothing is compared.
    from scipy.special import stdtr

    errors = [std**2 / count for std, count in zip(spreads, counts, strict=True)]
    each = (e**2 / (count - 1) for e, count in zip(errors, counts, strict=True))
    freedom = sum(errors) ** 2 / sum(each)
    return 2 * float(stdtr(freedom, -abs(difference) / math.sqrt(sum(errors))))
