"""What plots of a benchmark show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mmrev.measure.speed import Spread
from mmrev.studies.benchmark.report import MEBIBYTE, Benchmark, Measurement, forms

__all__ = ["Chart", "Panel", "chart"]

TITLES = {"forward": "evaluation", "train": "training step"}
TIME, MEMORY = "ms an image", "peak memory, MiB"


@dataclass(frozen=True)
class Panel:
    """One diagram.

    Attributes:
        title: what was done, and the values with their unit.
        places: along the other axis: lines of text on the images.
        values: by the name of a series, for each place; None where it was not measured.
        has_spread: whether values were measured more than once.
    """

    title: str
    places: list[list[str]]
    values: dict[str, list[Spread | None]]
    has_spread: bool


@dataclass(frozen=True)
class Chart:
    """Diagrams, a row a task.

    Attributes:
        title: the model, where there is one.
        names: of all series: models, and their forms.
        rows: time and memory.
    """

    title: str
    names: list[str]
    rows: list[tuple[Panel, Panel]]


def chart(benchmarks: Mapping[str, Benchmark]) -> Chart:
    """Sort out what is to be drawn.

    Args:
        benchmarks: by name, which series bear if there are several.
    """
    found = [(file, one) for file, b in benchmarks.items() for one in b.measurements]
    models = list(dict.fromkeys(one.model for _, one in found))
    tasks: dict[str, dict[str, dict[str, Measurement]]] = {}
    told = forms([one for _, one in found])
    for (file, one), form in zip(found, told, strict=True):
        words = [one.model if len(models) > 1 else "", form]
        name = ", ".join(filter(None, words)) or one.model
        name = f"{file}: {name}" if len(benchmarks) > 1 else name
        tasks.setdefault(one.task, {}).setdefault(name, {})[one.place] = one
    rows = [
        (_panel(task, TIME, series, _time), _panel(task, MEMORY, series, _memory))
        for task, series in tasks.items()
    ]
    longest = sorted(tasks.values(), key=len, reverse=True)
    names = list(dict.fromkeys(name for series in longest for name in series))
    return Chart(models[0] if len(models) == 1 else "", names, rows)


def _panel(
    task: str,
    what: str,
    series: Mapping[str, Mapping[str, Measurement]],
    value: Callable[[Measurement], Spread],
) -> Panel:
    places = list(dict.fromkeys(place for one in series.values() for place in one))
    values = {
        name: [value(one[place]) if place in one else None for place in places]
        for name, one in series.items()
    }
    lines = [place.split(", ") for place in places]
    return Panel(f"{TITLES[task]}: {what}", lines, values, has_spread=what == TIME)


def _time(one: Measurement) -> Spread:
    spread = one.latency_ms
    values = (spread.median, spread.lower, spread.upper)
    return Spread(*(value / one.batch for value in values))


def _memory(one: Measurement) -> Spread:
    return Spread.of([one.peak_memory / MEBIBYTE])
