"""A benchmark as a picture for a paper, by matplotlib."""

from collections.abc import Mapping
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmrev.operating_points.plot import COLOURS
from mmrev.studies.benchmark.report import Benchmark
from mmrev.studies.benchmark.series import Panel, chart

__all__ = ["draw_png"]

WIDTH, ROW_HEIGHT, LEGEND_LINE = 9.0, 2.8, 0.22  # inches
HATCHES = ("", "//", "xx", "..")
FILLED = 0.8
"""Share of a place's room that its bars have."""


def draw_png(benchmarks: Mapping[str, Benchmark]) -> bytes:
    """A row a task, time and memory side by side, 200 dots an inch."""
    drawn = chart(benchmarks)
    height = ROW_HEIGHT * len(drawn.rows) + LEGEND_LINE * (len(drawn.names) + 1)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(drawn.title, fontsize=10, x=0.01, ha="left", parse_math=False)
    styles = {
        name: dict(
            facecolor=COLOURS[number % len(COLOURS)],
            hatch=HATCHES[number // len(COLOURS) % len(HATCHES)],
            edgecolor="white",
        )
        for number, name in enumerate(drawn.names)
    }
    grid = figure.subplots(len(drawn.rows), 2, squeeze=False)
    for axes, panels in zip(grid, drawn.rows, strict=True):
        for one, panel in zip(axes, panels, strict=True):
            _draw(one, panel, styles)
    legend = figure.legend(
        [Patch(**style) for style in styles.values()],
        drawn.names,
        loc="outside lower left",
        frameon=False,
        fontsize=9,
    )
    for text in legend.get_texts():  # a name is no formula
        text.set_parse_math(False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()


def _draw(axes: Axes, panel: Panel, styles: Mapping[str, Mapping]) -> None:
    width = FILLED / len(panel.values)
    for order, (name, values) in enumerate(panel.values.items()):
        known = [(x, value) for x, value in enumerate(values) if value]
        middle = [value.median for _, value in known]
        low = [value.median - value.lower for _, value in known]
        high = [value.upper - value.median for _, value in known]
        axes.bar(
            [x + (order + 0.5) * width - FILLED / 2 for x, _ in known],
            middle,
            width,
            yerr=(low, high) if panel.has_spread else None,
            error_kw=dict(elinewidth=1, capsize=2),
            **styles[name],
        )
    lines = ["\n".join(place) for place in panel.places]
    axes.set_xticks(range(len(lines)), lines, fontsize=9)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
