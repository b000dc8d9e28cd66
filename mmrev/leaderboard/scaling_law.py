"""How the error of a family falls with compute or parameters: a law for each.

``error = coefficient * cost ** exponent``, fitted by least squares of the logarithms,
as "ConvNets Match Vision Transformers at Scale" (arXiv 2310.16764, figure 2) draws the
validation loss of NFNets against the compute of their pre-training. There a model is
trained for several lengths; what costs more than another point and is no better says
nothing of what that compute could do, and is left out of the law of 'compute'.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text
from scipy.stats import linregress, t

from mmrev.console import show
from mmrev.errors import UserError, nearest
from mmrev.leaderboard.groups import Group, grouped
from mmrev.leaderboard.published import published_records
from mmrev.leaderboard.record import MeasuredRecord, Record, best_value, main_metric
from mmrev.leaderboard.store import load_records
from mmrev.leaderboard.table import head, model_name
from mmrev.text import printable

__all__ = [
    "COSTS",
    "LEAST_COSTS",
    "LEAST_POINTS",
    "Law",
    "Series",
    "collect",
    "describe",
    "fit_law",
    "laws_table",
    "show_laws",
]

LEAST_POINTS = 4
# A line passes through the means at two costs whatever the law is.
LEAST_COSTS = 3
CONFIDENCE = 0.95
# Label and unit.
COSTS = {
    "flops": ("GMACs", 1e9),
    "params": ("M parameters", 1e6),
    "compute": ("TMACs of training", 1e12),
}
# The backward pass multiplies by weights and by activations.
_PASSES = 3


class Law(NamedTuple):
    """A fitted law.

    Attributes:
        coefficient: Error at a cost of 1.
        exponent: Negative where more cost means less error.
        exponent_range: 95 % confidence interval of `exponent`.
        r_squared: Share of the variance of the log errors that the law explains.
        points: Number fitted.
        centre: Mean of the log costs.
        spread: Sum of their squared deviations from it.
        noise: Standard deviation of the log errors about the law.
    """

    coefficient: float
    exponent: float
    exponent_range: tuple[float, float]
    r_squared: float
    points: int
    centre: float
    spread: float
    noise: float

    def band(self, costs: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The law and where it may lie, pointwise, with 95 % confidence.

        Args:
            costs: (K,), in the unit fitted.

        Returns:
            Error, lower and upper bound, (K,) each.
        """
        logs = np.log(costs)
        error = np.log(self.coefficient) + self.exponent * logs
        distance = 1 / self.points + (logs - self.centre) ** 2 / self.spread
        margin = _quantile(self.points) * self.noise * np.sqrt(distance)
        return np.exp(error), np.exp(error - margin), np.exp(error + margin)


class Series(NamedTuple):
    """The points of one law: what was trained and tested alike, in several sizes.

    Attributes:
        task: of the records.
        data: Data set and split.
        metric: The main one.
        kind: 'measured' or 'published'; a law never mixes them.
        family: of the backbones.
        setting: What else they have in common, to read.
        names: of the models.
        costs: In the unit of `COSTS`.
        errors: 1 - AP, or 100 - metric for metrics in percent; a loss as it is.
        fitted: Whether the law is of a point; that of 'compute' is of the best ones.
    """

    task: str
    data: str
    metric: str
    kind: str
    family: str
    setting: str
    names: list[str]
    costs: list[float]
    errors: list[float]
    fitted: list[bool]

    def law(self) -> Law:
        """Fit the law.

        Raises:
            ValueError: of `fit_law`.
        """
        chosen = [
            point
            for *point, fitted in zip(self.costs, self.errors, self.fitted, strict=True)
            if fitted
        ]
        return fit_law(*zip(*chosen, strict=True))


def fit_law(costs: Sequence[float], errors: Sequence[float]) -> Law:
    """Fit ``log(error) = a + b log(cost)`` by least squares.

    Args:
        costs: (N,), positive.
        errors: (N,), positive.

    Raises:
        ValueError: There are fewer than four points or three costs, or a number has no
            logarithm.
    """
    if len(costs) != len(errors):
        raise ValueError(
            f"expected as many errors as costs, got {len(errors)} and {len(costs)}."
        )
    if len(costs) < LEAST_POINTS:
        raise ValueError(
            f"a fit needs at least {LEAST_POINTS} points, got {len(costs)}."
        )
    if not (np.min(costs) > 0 and np.min(errors) > 0):
        raise ValueError("a fit of logarithms needs costs and errors above 0.")
    if (different := len(set(costs))) < LEAST_COSTS:
        raise ValueError(
            f"a fit needs at least {LEAST_COSTS} different costs, got {different}."
        )
    x, y = np.log(costs), np.log(errors)
    line = linregress(x, y)
    spread = float(np.sum((x - x.mean()) ** 2))
    margin = _quantile(len(x)) * line.stderr
    return Law(
        coefficient=float(np.exp(line.intercept)),
        exponent=float(line.slope),
        exponent_range=(float(line.slope - margin), float(line.slope + margin)),
        r_squared=float(line.rvalue**2),
        points=len(x),
        centre=float(x.mean()),
        spread=spread,
        noise=float(line.stderr * np.sqrt(spread)),
    )


def collect(
    groups: Iterable[Group], cost: str, metric: str | None = None
) -> list[Series]:
    """Sort groups of seeds into series; each is one point, the mean of its runs.

    The points of a series have head, training data, pretraining, length of training and
    augmentation in common; stitches, the anchors, too. Protocols may differ, as the
    image side that grows with the model does, but a series with a model of several
    protocols is split by them. The length is part of the cost 'compute': three times
    the operations of testing an image, for every image of the training.

    Args:
        groups: Those without the cost or the metric are left out, and incomplete tests.
        cost: A key of `COSTS`.
        metric: None is the main one of each record.
    """
    found: dict[tuple, dict[str, list[tuple[str, float, float]]]] = {}
    for group in groups:
        record = group.newest
        measure = metric or main_metric(record)
        mean, amount = group.mean(measure), _amount(record, cost)
        # COCO's -1 says that there was nothing to find.
        if mean is None or mean < 0 or not amount or record.incomplete:
            continue
        key = (
            *(record.task, f"{record.dataset.name} {record.dataset.split}".strip()),
            *(measure, record.kind, record.model.family, _setting(record, cost)),
        )
        name = model_name(record)
        if cost == "compute":
            name += f", {record.training.length}"
        point = name, amount / COSTS[cost][1], abs(best_value(measure) - mean)
        protocol = "; ".join(record.protocols)
        found.setdefault(key, {}).setdefault(protocol, []).append(point)
    return [
        series for key in sorted(found) for series in _series(key, found[key], cost)
    ]


def show_laws(
    roots: Iterable[str | Path], cost: str, metric: str | None = None
) -> None:
    """Print the laws of records and of published figures; name files that are none.

    Args:
        roots: as of `mmrev.leaderboard.store.load_records`.
        cost: of `COSTS`.
        metric: as of `collect`.

    Raises:
        UserError: no record has the metric.
    """
    records, rejected = load_records(roots)
    for path, reason in rejected.items():
        print(printable(f"skipped {path}: {reason}"), file=sys.stderr)
    found = [*records.values(), *published_records()]
    known = {name for record in found for name in record.metrics}
    if metric is not None and metric not in known:
        raise UserError(
            f"--metric {metric}: no record has it; {nearest(metric, known)}"
        )
    show(laws_table(found, cost, metric))


def laws_table(
    records: Iterable[Record], cost: str, metric: str | None = None
) -> Table:
    """Render every law, and what is not fitted with the reason, for the terminal."""
    table = Table(show_lines=True, caption=f"x: {COSTS[cost][0]}; in brackets, 95 %")
    for name in ("family", "test", "law"):
        table.add_column(name, overflow="fold")
    for series in collect(grouped(records), cost, metric):
        # As text, since square brackets in a name would be rich's markup.
        table.add_row(
            Text(f"{series.family} ({series.kind})\n{series.setting}"),
            Text(f"{series.data}\n{series.metric}"),
            Text(describe(series)),
        )
    return table


def describe(series: Series) -> str:
    """Say the law of a series, or why there is none."""
    try:
        law = series.law()
    except ValueError as error:
        return f"not fitted: {error}"
    low, high = law.exponent_range
    total = len(series.fitted)
    of_all = "" if law.points == total else f" of {total}"
    return (
        f"error = {law.coefficient:.3g} x^{law.exponent:.3f} ({low:.3f} to "
        f"{high:.3f}), R2 {law.r_squared:.2f}, {law.points}{of_all} points"
    )


def _amount(record: Record, cost: str) -> float | None:
    """What a model costs; None where nobody knows."""
    if cost != "compute":
        return getattr(record.model, cost)
    training, flops = record.training, record.model.flops
    if None in (training.batch, training.iterations, flops):
        return None
    return _PASSES * flops * training.batch * training.iterations


def _best(costs: Sequence[float], errors: Sequence[float]) -> list[bool]:
    """Whether all that costs no more is worse."""
    points = list(zip(costs, errors, strict=True))
    return [
        not any(c <= cost and e <= error and (c, e) != (cost, error) for c, e in points)
        for cost, error in points
    ]


def _series(key: tuple, tests: dict[str, list[tuple]], cost: str) -> Iterator[Series]:
    """The points of a setting by protocol, or together if no model has several."""
    points = list(chain(*tests.values()))
    if len(tests) == 1 or len({name for name, *_ in points}) == len(points):
        tests = {"": points}
    for protocol, points in sorted(tests.items()):
        setting = ", ".join(filter(None, [key[-1], protocol]))
        names, costs, errors = map(list, zip(*points, strict=True))
        fitted = [True] * len(points)
        if cost == "compute":
            fitted = _best(costs, errors)
        yield Series(*key[:-1], setting, names, costs, errors, fitted)


def _setting(record: Record, cost: str) -> str:
    training, measured = record.training, isinstance(record, MeasuredRecord)
    anchors = record.model.name if measured else record.model.backbone
    # Names of checkpoints differ from size to size.
    starts = " + ".join(training.origins)
    origin = "a checkpoint" if measured and starts else starts
    parts = (
        anchors if record.model.family == "Stitched" else "",
        *(head(record), training.data),
        f"from {origin}" if origin else "",
        training.length if cost != "compute" else "",
        "TTA" if measured and record.config.tta else "",
    )
    return ", ".join(filter(None, parts))


def _quantile(points: int) -> float:
    return float(t.ppf((1 + CONFIDENCE) / 2, points - 2))
