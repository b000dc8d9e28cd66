"""How good stitches are against what they cost: a page, by plotly.

Its camera saves what it shows as PNG; without a browser plotly makes no image.
"""

import math
import re
from collections.abc import Sequence
from html import escape
from itertools import cycle
from typing import NamedTuple

import plotly.graph_objects as go

from mmrev.operating_points.costs import StitchCost, pareto_front

# Column of StitchCost -> label and unit.
COSTS = {
    "latency_ms": ("latency of an image, ms", 1),
    "flops": ("GMACs of an image", 1e9),
    "params": ("parameters, millions", 1e6),
    "memory_mb": ("peak memory of an image, MiB", 1),
}
# Okabe and Ito's colours, told apart by the colour-blind, without yellow, which white
# paper swallows; shapes tell groups apart even without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
SHAPES = (
    *("circle", "square", "triangle-up", "diamond"),
    *("cross", "triangle-down", "x"),
)
# Costs that differ by more are spread by a logarithmic axis.
WIDEST_LINEAR = 5
FRONT = "best at a cost"
# Of the page; nothing that sends the data elsewhere.
CONTROLS = dict(
    displaylogo=False,
    showSendToCloud=False,
    toImageButtonOptions=dict(filename="stitches", scale=3),
)


class CostAxis(NamedTuple):
    """One cost of the stitches.

    Attributes:
        label: with the unit.
        values: by stitch, in the unit.
        front: stitches that no other beats in both this cost and quality, cheap first.
        ticks: of a logarithmic axis; None for a linear one.
    """

    label: str
    values: dict[int, float]
    front: list[int]
    ticks: list[float] | None


class PlotData(NamedTuple):
    """What is drawn.

    Attributes:
        metric: name.
        stitches: those with a metric, by id.
        anchors: names by id.
        groups: ids of the other stitches, by the anchors that they run through.
        axes: every cost that was measured.
    """

    metric: str
    stitches: dict[int, StitchCost]
    anchors: dict[int, str]
    groups: dict[str, list[int]]
    axes: list[CostAxis]


def plot_data(
    costs: Sequence[StitchCost], metric: str, anchors: Sequence[str]
) -> PlotData:
    """Sort out what is to be drawn; stitches without a metric are left out.

    Args:
        costs: of `mmrev.operating_points.costs.stitch_costs`, with metrics.
        metric: its name.
        anchors: names of the anchors, whose index is the stitch's id.

    Raises:
        ValueError: if no stitch has a metric.
    """
    stitches = {cost.id: cost for cost in costs if cost.metric is not None}
    if not stitches:
        raise ValueError(
            "a plot needs the metric of at least one stitch, got none. Test with "
            "test_cfg = dict(type='mmrev.StitchTestLoop') first."
        )
    names = {id: f"{id} {name}" for id, name in enumerate(anchors) if id in stitches}
    groups: dict[str, list[int]] = {}
    for id in stitches.keys() - names.keys():
        # What stands at the start and behind each crossing, as in 0 >(s2: 3>5)> 1.
        passed = re.findall(r"^\d+|(?<=\)> )\d+", stitches[id].route)
        groups.setdefault(" to ".join(passed), []).append(id)
    rated = list(stitches.values())
    axes = []
    for column, (label, unit) in COSTS.items():
        if any(getattr(cost, column) is None for cost in rated):
            continue
        values = {cost.id: getattr(cost, column) / unit for cost in rated}
        front = [cost.id for cost in pareto_front(rated, column)]
        axes.append(CostAxis(label, values, front, log_ticks(list(values.values()))))
    groups = {name: sorted(groups[name]) for name in sorted(groups)}
    return PlotData(metric, stitches, names, groups, axes)


def log_ticks(values: Sequence[float]) -> list[float] | None:
    """1, 2, 5, 10, ... around values, if they ask for a logarithmic axis, else None."""
    low, high = min(values), max(values)
    if not 0 < WIDEST_LINEAR * low < high:
        return None
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return [step for step in steps if low / 2 < step < 2 * high]


def draw_html(data: PlotData) -> bytes:
    """A page that needs no network: one chart, a button for each cost."""
    styles = [dict(name=FRONT, mode="lines", line=dict(shape="hv", color="black"))]
    for name, colour, shape in zip(
        data.groups, cycle(COLOURS), cycle(SHAPES), strict=False
    ):
        marker = dict(color=colour, symbol=shape, size=9)
        styles.append(dict(name=name, mode="markers", marker=marker))
    for id, name in data.anchors.items():
        marker = dict(color="white", size=20, line=dict(color="black", width=1.5))
        style = dict(name=name, mode="markers+text", marker=marker, text=f"<b>{id}</b>")
        styles.append(style)
    places = [_places(axis, data) for axis in data.axes]
    figure = go.Figure()
    for style, *place in zip(styles, *places[0].values(), strict=True):
        x, y, hover = place
        style |= dict(hovertemplate="%{hovertext}<extra></extra>")
        figure.add_scatter(x=x, y=y, hovertext=hover, **style)
    figure.update_traces(hoverinfo="skip", hovertemplate=None, selector=0)
    buttons = [
        dict(label=axis.label, method="update", args=[place, {"xaxis": _xaxis(axis)}])
        for axis, place in zip(data.axes, places, strict=True)
    ]
    menu = dict(type="buttons", direction="right", x=0, y=1.08, xanchor="left")
    figure.update_layout(
        template="plotly_white",
        font_size=14,
        xaxis=_xaxis(data.axes[0]),
        yaxis_title=data.metric,
        updatemenus=[dict(menu, yanchor="bottom", buttons=buttons)],
    )
    page = figure.to_html(include_plotlyjs=True, include_mathjax=False, config=CONTROLS)
    return page.encode()


def _places(axis: CostAxis, data: PlotData) -> dict[str, list[list]]:
    """Of each trace of the page, the points and what is shown over them."""
    anchors = [[id] for id in data.anchors]
    traces = [axis.front, *data.groups.values(), *anchors]
    return {
        "x": [[axis.values[id] for id in ids] for ids in traces],
        "y": [[data.stitches[id].metric for id in ids] for ids in traces],
        "hovertext": [[_describe(data, id) for id in ids] for ids in traces],
    }


def _xaxis(axis: CostAxis) -> dict:
    settings = dict(title=dict(text=axis.label), autorange=True)
    if axis.ticks is None:
        return dict(settings, type="linear")
    return dict(settings, type="log", tickvals=axis.ticks)


def _describe(data: PlotData, id: int) -> str:
    """Everything known of a stitch."""
    cost = data.stitches[id]
    lines = [
        f"<b>stitch {id}</b>: {escape(cost.route)}",
        f"{escape(data.metric)}: {cost.metric:.4g}",
        f"{cost.params / 1e6:.2f} M parameters",
        f"{cost.flops / 1e9:.2f} GMACs",
    ]
    if cost.latency_ms is not None:
        lines.append(f"{cost.latency_ms:.1f} ms")
    if cost.memory_mb is not None:
        lines.append(f"{cost.memory_mb:.1f} MiB")
    return "<br>".join(lines)
