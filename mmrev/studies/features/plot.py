"""The figure of an analysis, by matplotlib."""

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mmrev.operating_points.plot import COLOURS
from mmrev.studies.features.report import Report, StateReport

__all__ = ["FORMATS", "draw"]

FORMATS = (".png", ".svg", ".pdf")
# Told apart without colour, too.
MARKERS = "os^DPvX"
SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # letters, not drawings of them
    "savefig.dpi": 250,
}
WIDTH, ROW = 9.6, 2.35  # inches
# Maps of receptive fields beside each other.
MOST_MAPS = 4
# Of contributions, below the strongest, that a map shows.
DECADES = 4
# Between the ends of a logarithmic axis that has ticks between powers of 10.
MANY_TICKS = 1000

Value = Callable[[StateReport], float | None]


def draw(report: Report, suffix: str) -> bytes:
    """Draw what was found.

    Above CKA, sizes of states and of what blocks add; below receptive fields, if there
    are some. Columns are drawn over their number, a line a level; a backbone without
    columns over its levels.

    Args:
        report: of an analysis.
        suffix: one of `FORMATS`.
    """
    with matplotlib.rc_context(SETTINGS):
        fields = any(state.field for state in report.states)
        figure = Figure(figsize=(WIDTH, ROW * (1 + fields) + 0.5), layout="constrained")
        above, below = figure, None
        if fields:
            above, below = figure.subfigures(2, 1, height_ratios=(1, 1))
        similarity, label, sizes, branches = above.subplots(1, 4)
        _similarities(similarity, label, report)
        _sizes(sizes, report)
        _branches(branches, report)
        if below is not None:
            _fields(below, report)
        handles, names = similarity.get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            title=report.title,
            loc="outside upper center",
            ncols=min(len(names), 8),
        )
        file = BytesIO()
        figure.savefig(file, format=suffix.removeprefix("."))
    return file.getvalue()


def _similarities(image: Axes, label: Axes, report: Report) -> None:
    _lines(image, report, lambda s: s.image.value, error=lambda s: s.image.error)
    image.set(title="CKA with the image")
    if report.label is None:
        label.set_axis_off()
        return
    _lines(
        label,
        report,
        lambda s: s.label and s.label.value,
        error=lambda s: s.label and s.label.error,
    )
    label.set(title="CKA with the label")
    limits = [*image.get_ylim(), *label.get_ylim()]
    for axes in (image, label):
        axes.set_ylim(min(0, *limits), 1.05 * max(limits))


def _sizes(axes: Axes, report: Report) -> None:
    _lines(axes, report, lambda state: state.sizes.rms)
    _lines(axes, report, lambda state: state.sizes.max, linestyle=":", marker="")
    axes.set(title="size of states: RMS,\nlargest value (dotted)")
    _logarithmic(axes)


def _branches(axes: Axes, report: Report) -> None:
    """What blocks add, over what they read, and their layer scales."""
    depths = range(len(report.blocks))
    axes.plot(depths, [_plain(b.growth) for b in report.blocks], color="0.8", zorder=0)
    scaled = False
    for depth, block in enumerate(report.blocks):
        style = _style(report, block.level)
        if block.growth is not None:
            axes.plot(depth, block.growth, linestyle="", **style)
        if block.layer_scale:
            scaled = True
            style.update(markerfacecolor="none", linestyle="")
            axes.plot(depth, block.layer_scale.mean, **style)
    title = "RMS of what a block adds, over\nwhat it reads"
    axes.set(title=f"{title}; layer scale (open)" if scaled else title, xlabel="block")
    _logarithmic(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _fields(figure: Figure, report: Report) -> None:
    """Maps of the last column, and areas of all states."""
    last = max((state.column or 0 for state in report.states), default=0)
    shown = [s for s in report.states if (s.column or 0) == last and s.field]
    if len(shown) > MOST_MAPS:
        places = np.linspace(0, len(shown) - 1, MOST_MAPS).round().astype(int)
        shown = [shown[place] for place in places]
    *maps, areas = figure.subplots(
        1, len(shown) + 1, width_ratios=[*[1] * len(shown), 1.35]
    )
    for axes, state in zip(maps, shown, strict=True):
        image = _map(axes, state)
    figure.colorbar(
        image,
        ax=maps,
        shrink=0.75,
        pad=0.01,
        ticks=range(-DECADES, 1),
        label="contribution / strongest,\npower of 10",
    )
    _lines(areas, report, lambda s: s.field and s.field.area_50)
    _lines(areas, report, lambda s: s.field and s.field.area_95, linestyle="--")
    areas.set(title="receptive field: area that holds\n50 %, 95 % (dashed)")
    _logarithmic(areas)
    areas.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def _map(axes: Axes, state: StateReport) -> AxesImage:
    field = np.array(state.field.map)
    strongest = max(field.max(), 1e-300)
    logarithms = np.log10(np.maximum(field / strongest, 10.0**-DECADES))
    axes.set_axis_off()
    column = "" if state.column is None else f"column {state.column}, "
    axes.set_title(f"{column}level {state.level}")
    return axes.imshow(logarithms, cmap="magma", vmin=-DECADES, vmax=0)


def _logarithmic(axes: Axes) -> None:
    """Scale an axis by powers, if there is something to scale."""
    values = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    if not any((np.nan_to_num(one) > 0).any() for one in values):
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < MANY_TICKS * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _lines(
    axes: Axes, report: Report, value: Value, error: Value | None = None, **style
) -> None:
    """A value of states over columns, a line a level; without columns over levels."""
    if any(state.column is not None for state in report.states):
        for level in report.levels:
            own = [state for state in report.states if state.level == level]
            columns = [state.column for state in own]
            _line(axes, columns, own, value, error, {**_style(report, level), **style})
        axes.set_xlabel("column")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        places = range(len(report.states))
        grey = {"color": "0.6", **style, "marker": ""}
        _line(axes, places, report.states, value, None, grey)
        for place, state in zip(places, report.states, strict=True):
            own = {**_style(report, state.level), **style}
            _line(axes, [place], [state], value, error, own)
        axes.set_xticks(places, [state.level for state in report.states])
        axes.set_xlabel("level")


def _line(
    axes: Axes,
    places: Sequence[int],
    states: Iterable[StateReport],
    value: Value,
    error: Value | None,
    style: dict,
) -> None:
    states = list(states)
    values = [_plain(value(state)) for state in states]
    errors = [_plain(error(state)) for state in states] if error else None
    axes.errorbar(places, values, errors, capsize=1.5, elinewidth=0.8, **style)


def _style(report: Report, level: int | None) -> dict:
    if level not in report.levels:
        return dict(color="0.4", marker=".")
    number = report.levels.index(level)
    return dict(
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        label=f"level {level}",
    )


def _plain(value: float | None) -> float:
    return np.nan if value is None else value
