"""A benchmark as a page, by plotly."""

from collections.abc import Mapping
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mmrev.operating_points.plot import COLOURS, CONTROLS
from mmrev.studies.benchmark.report import Benchmark
from mmrev.studies.benchmark.series import Panel, chart

__all__ = ["draw_html"]

ROW_HEIGHT, LEGEND_LINE, TOP, BELOW = 320, 26, 90, 70  # pixels
PATTERNS = ("", "/", "x", ".")


def draw_html(benchmarks: Mapping[str, Benchmark]) -> bytes:
    """A page that needs no network: a row a task, time and memory side by side."""
    drawn = chart(benchmarks)
    count = len(drawn.rows)
    figure = make_subplots(
        rows=count,
        cols=2,
        subplot_titles=[panel.title for row in drawn.rows for panel in row],
        vertical_spacing=0.26 / count,
        horizontal_spacing=0.07,
    )
    told = set()
    for row, panels in enumerate(drawn.rows, start=1):
        for column, panel in enumerate(panels, start=1):
            for name in panel.values:
                bars = _bars(panel, name, drawn.names.index(name))
                bars.showlegend = name not in told
                told.add(name)
                figure.add_trace(bars, row=row, col=column)
    figure.update_annotations(font_size=15)
    figure.update_yaxes(rangemode="tozero")
    below = BELOW + LEGEND_LINE * len(drawn.names)
    figure.update_layout(
        template="plotly_white",
        font_size=14,
        title=dict(text=escape(drawn.title), font_size=16, x=0.01),
        barmode="group",
        height=TOP + ROW_HEIGHT * count + below,
        margin=dict(t=TOP, b=below, l=60, r=20),
        legend=dict(
            orientation="v",
            **dict(x=0, xanchor="left", yref="container", y=0.01, yanchor="bottom"),
        ),
    )
    controls = dict(CONTROLS, toImageButtonOptions=dict(filename="benchmark", scale=3))
    page = figure.to_html(include_plotlyjs=True, include_mathjax=False, config=controls)
    return page.encode()


def _bars(panel: Panel, name: str, number: int) -> go.Bar:
    values = panel.values[name]
    bars = go.Bar(
        x=["<br>".join(lines) for lines in panel.places],
        y=[value and value.median for value in values],
        name=escape(name),
        legendgroup=name,
        legendrank=number,
        marker_color=COLOURS[number % len(COLOURS)],
        marker_pattern_shape=PATTERNS[number // len(COLOURS) % len(PATTERNS)],
        hovertemplate=f"{escape(name)}<br>%{{x}}: %{{y:.4g}}<extra></extra>",
    )
    if panel.has_spread:
        bars.error_y = dict(
            type="data",
            symmetric=False,
            array=[value and value.upper - value.median for value in values],
            arrayminus=[value and value.median - value.lower for value in values],
            thickness=1.5,
        )
    return bars
