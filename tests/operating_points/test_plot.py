"""What is drawn of stitches, and that the page shows it."""

import json
import re

import pytest

from mmrev.operating_points.costs import StitchCost
from mmrev.operating_points.plot import draw_html, plot_data


def cost(id, route, metric, flops=1e9, **columns):
    return StitchCost(
        id=id,
        route=route,
        params=int(flops / 100),
        params_as_reference=1,
        flops=int(flops),
        metric=metric,
        **columns,
    )


COSTS = [
    cost(0, "0", 0.1, 1e9),
    cost(1, "1", 0.4, 8e9),
    cost(2, "0 >(s2: 3>5)> 1", 0.2, 2e9),
    cost(3, "0 >(s2: 3>6)> 1", 0.15, 3e9),
    cost(4, "1 >(s0: 1>2)> 0 >(s2: 3>5)> 1", 0.3, 4e9),
    cost(5, "0 >(s2: 3>7)> 1", None, 1e12),
]
NAMES = ["ResNet 18", "ResNet 50"]


def measured(costs, slowest=40.0):
    return [
        c.model_copy(update=dict(latency_ms=slowest - c.id, memory_mb=10.0 + c.id))
        for c in costs
    ]


def test_data():
    data = plot_data(COSTS, "mIoU", NAMES)
    assert sorted(data.stitches) == [0, 1, 2, 3, 4]
    assert data.anchors == {0: "0 ResNet 18", 1: "1 ResNet 50"}
    assert data.groups == {"0 to 1": [2, 3], "1 to 0 to 1": [4]}
    flops, params = data.axes
    assert flops.label == "GMACs of an image"
    assert flops.values == {0: 1.0, 1: 8.0, 2: 2.0, 3: 3.0, 4: 4.0}
    assert flops.front == [0, 2, 4, 1]
    assert params.values[1] == 80.0


def test_every_cost_has_a_front_of_its_own():
    data = plot_data(measured(COSTS), "mIoU", NAMES)
    fronts = {axis.label.partition(" ")[0]: axis.front for axis in data.axes}
    assert fronts == {
        "latency": [4, 1],
        "GMACs": [0, 2, 4, 1],
        "parameters,": [0, 2, 4, 1],
        "peak": [0, 1],
    }


def test_a_wide_range_gets_a_logarithmic_axis():
    axis = plot_data(COSTS, "mIoU", NAMES).axes[0]
    assert axis.ticks == pytest.approx([1, 2, 5, 10])
    narrow = plot_data([COSTS[0], COSTS[4]], "mIoU", NAMES).axes[0]
    assert narrow.ticks is None


def test_an_anchor_that_was_not_tested_is_not_drawn():
    data = plot_data(COSTS[1:], "mIoU", NAMES)
    assert data.anchors == {1: "1 ResNet 50"}


def test_without_metrics_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match=r"needs the metric .*StitchTestLoop"):
        plot_data(COSTS[5:], "mIoU", NAMES)


def test_page():
    page = draw_html(plot_data(measured(COSTS), "m<IoU", NAMES)).decode()
    # Nothing is fetched: there is no script, style or image but in the page itself.
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    call = page[page.rindex("Plotly.newPlot(") :]
    traces, end = json.JSONDecoder().raw_decode(call, call.index("["))
    layout, _ = json.JSONDecoder().raw_decode(call, call.index("{", end))
    found = {trace["name"]: trace for trace in traces}
    assert list(found) == [
        *("best at a cost", "0 to 1", "1 to 0 to 1", "0 ResNet 18", "1 ResNet 50")
    ]
    assert found["best at a cost"]["y"] == [0.3, 0.4]
    assert found["0 to 1"]["x"] == [38.0, 37.0]
    assert found["0 to 1"]["hovertext"][0] == (
        "<b>stitch 2</b>: 0 &gt;(s2: 3&gt;5)&gt; 1<br>m&lt;IoU: 0.2<br>"
        "20.00 M parameters<br>2.00 GMACs<br>38.0 ms<br>12.0 MiB"
    )
    (menu,) = layout["updatemenus"]
    points, axis = menu["buttons"][1]["args"]
    assert axis["xaxis"]["type"] == "log" and layout["xaxis"]["type"] == "linear"
    assert points["x"][0] == [1.0, 2.0, 4.0, 8.0] and len(points["y"]) == len(traces)
