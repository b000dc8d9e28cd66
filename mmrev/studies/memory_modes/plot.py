"""Bytes and seconds over depth: a page, by plotly."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrev.operating_points.plot import COLOURS, CONTROLS, SHAPES
from mmrev.studies.memory_modes.figures import MEBIBYTE, Growth
from mmrev.studies.memory_modes.networks import STOCK

MODES = ("store", STOCK, "recompute", "reverse")
# Of bytes, which differ by orders of magnitude.
TICKS = [step * 10**decade for decade in range(6) for step in (1, 2, 5)]
LOGARITHMIC = dict(type="log", tickmode="array", tickvals=TICKS)
LINEAR = dict(type="linear", tickmode="auto", rangemode="tozero")
ROW_HEIGHT, TOP = 330, 110  # pixels


def draw_html(growths: Sequence[Growth]) -> bytes:
    """A page that needs no network: a row a case, bytes and seconds side by side."""
    figure = make_subplots(
        rows=len(growths),
        cols=2,
        subplot_titles=[
            title
            for one in growths
            for title in (f"{escape(one.case.name)}; {escape(one.case.place)}", "")
        ],
        vertical_spacing=0.3 / len(growths),
        horizontal_spacing=0.08,
    )
    named = set()
    for row, growth in enumerate(growths, start=1):
        for mode, costs in growth.costs.items():
            peaks = [cost.peak / MEBIBYTE for cost in costs.values()]
            seconds = [cost.seconds.median for cost in costs.values()]
            for column, values in enumerate((peaks, seconds), start=1):
                line = _line(mode, list(costs), values)
                line.showlegend = mode not in named
                named.add(mode)
                figure.add_trace(line, row=row, col=column)
        depths = list(growth.costs["store"])
        figure.update_xaxes(title=f"{growth.case.unit}s", tickvals=depths, row=row)
    figure.update_annotations(x=0, xanchor="left")
    figure.update_yaxes(LOGARITHMIC, title="peak of a step, MiB", col=1)
    figure.update_yaxes(LINEAR, title="step, s", col=2)
    figure.update_layout(
        template="plotly_white",
        font_size=14,
        height=TOP + ROW_HEIGHT * len(growths),
        margin=dict(t=TOP, b=60),
        legend=dict(orientation="h", yref="container", y=0.99, yanchor="top"),
        updatemenus=[_scales(len(growths))],
    )
    controls = dict(CONTROLS, toImageButtonOptions=dict(filename="memory", scale=3))
    page = figure.to_html(include_plotlyjs=True, include_mathjax=False, config=controls)
    return page.encode()


def _line(mode: str, depths: list[int], values: list[float]) -> go.Scatter:
    number = MODES.index(mode)
    return go.Scatter(
        x=depths,
        y=values,
        name=mode,
        legendgroup=mode,
        mode="lines+markers",
        line_color=COLOURS[number],
        marker=dict(symbol=SHAPES[number], size=9),
        hovertemplate=f"{mode}, %{{x}}: %{{y:.4g}}<extra></extra>",
    )


def _scales(rows: int) -> dict:
    """Buttons that choose the scale of bytes in every row."""
    axes = ["yaxis", *(f"yaxis{number}" for number in range(3, 2 * rows, 2))]
    buttons = [
        dict(
            label=f"{scale['type']} MiB",
            method="relayout",
            args=[
                {
                    f"{axis}.{key}": value
                    for axis in axes
                    for key, value in {**scale, "autorange": True}.items()
                }
            ],
        )
        for scale in (LOGARITHMIC, LINEAR)
    ]
    menu = dict(type="buttons", direction="right", x=0.46, xanchor="right")
    return dict(menu, y=1, yanchor="bottom", pad_b=12, buttons=buttons)
