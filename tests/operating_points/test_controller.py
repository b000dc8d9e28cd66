"""The latency controller, on simulated machines."""

import random
from itertools import pairwise

import pytest

from mmrev.operating_points.controller import LatencyController, pareto_front
from mmrev.operating_points.costs import StitchCost


def costs(*latencies, flops=None, metrics=None):
    return [
        StitchCost(
            id=i,
            route=str(i),
            params=1,
            params_as_reference=1,
            flops=(flops or range(1, 99))[i],
            latency_ms=latency,
            metric=metrics and metrics[i],
        )
        for i, latency in enumerate(latencies)
    ]


def ids(front):
    return [cost.id for cost in front]


def test_front():
    table = costs(10, 30, 20, 25, 20, flops=[1, 9, 5, 4, 3])
    assert ids(pareto_front(table)) == [0, 2, 1]
    rated = costs(10, 30, 20, 25, metrics=[0.1, 0.2, 0.3, 0.4])
    assert ids(pareto_front(rated)) == [0, 2, 3]
    with pytest.raises(ValueError, match="repeats > 0"):
        pareto_front(costs(10, None))


TABLE = costs(10, 20, 30, 40)


def simulate(controller, loads):
    """The stitch and the time of every frame."""
    frames = []
    for load in loads:
        stitch = controller.stitch
        latency = load * TABLE[stitch].latency_ms
        frames.append((stitch, latency))
        controller.update(latency)
    return frames


def test_an_idle_machine_runs_the_slowest_that_fits():
    assert LatencyController(TABLE, 35).stitch == 2
    assert LatencyController(TABLE, 30).stitch == 2
    assert {s for s, _ in simulate(LatencyController(TABLE, 35), [1.0] * 50)} == {2}


def test_load_comes_and_goes():
    controller = LatencyController(TABLE, 42)
    frames = simulate(controller, [1.0] * 20 + [2.0] * 40 + [1.0] * 60)
    assert frames[19][0] == 3
    # Within a few frames of the load the budget holds again, by the best that can.
    assert all(latency <= 42 for _, latency in frames[28:60])
    assert frames[59][0] == 1
    # And the quality is back when it has gone: 40 of 42 ms leave no room, 30 do.
    assert frames[-1][0] == 2
    assert all(latency <= 42 for _, latency in frames[60:])


def test_a_load_at_the_border_does_not_flicker():
    generator = random.Random(0)
    loads = [1.0 + generator.uniform(-0.05, 0.05) for _ in range(500)]
    controller = LatencyController(TABLE, 40)
    stitches = [stitch for stitch, _ in simulate(controller, loads)]
    changes = sum(a != b for a, b in pairwise(stitches))
    assert changes <= 2


def test_where_nothing_fits_the_fastest_runs():
    controller = LatencyController(TABLE, 12)
    frames = simulate(controller, [9.0] * 30)
    assert frames[-1][0] == 0


@pytest.mark.parametrize("latency", [0.0, -1.0, float("nan")])
def test_a_latency_that_is_none(latency):
    with pytest.raises(ValueError, match="must be above 0, got"):
        LatencyController(TABLE, 40).update(latency)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(budget_ms=9.9),
            "no stitch meets budget_ms=9.9; the fastest, 0, takes 10",
        ),
        (dict(budget_ms=20, room=1.0), "room in"),
        (dict(budget_ms=20, patience=0), "patience >= 1"),
        (dict(budget_ms=20, memory=1.0), "memory"),
    ],
)
def test_settings_outside_their_range(settings, message):
    with pytest.raises(ValueError, match=message):
        LatencyController(TABLE, **settings)
