"""Costs of calls, and that only those of one run are compared."""

import time

import pytest
import torch

from mmrev.measure.costs import Cost, paired_costs
from mmrev.measure.speed import Spread, paired_rounds

MEGABYTE = 2**20


def filled(megabytes):
    return torch.ones(megabytes * MEGABYTE // 4)


def test_calls_are_made_in_turn(monkeypatch):
    clock, made = iter(range(100)), []
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    steps = {name: lambda name=name: made.append(name) for name in "ab"}
    rounds = paired_rounds(steps, repeats=3, warm_up=2)
    assert made == ["a", "b"] * 5
    assert rounds == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_costs_of_calls():
    costs = paired_costs({n: lambda n=n: filled(n) for n in (1, 3)}, repeats=4)
    assert list(costs) == [1, 3]
    for megabytes, cost in costs.items():
        assert cost.peak == pytest.approx(megabytes * MEGABYTE, rel=0.01)
        assert len(cost.rounds) == 4 and min(cost.rounds) > 0


def test_what_is_kept_by_the_first_call_is_no_peak():
    kept = []

    def step():
        if not kept:
            kept.append(filled(8))
        return filled(1)

    assert paired_costs({"": step}, repeats=1)[""].peak < 2 * MEGABYTE


def test_ratios_are_of_rounds():
    run = object()
    one = Cost((2.0, 3.0, 40.0), 0, run)
    other = Cost((1.0, 2.0, 10.0), 0, run)
    assert one.over(other) == Spread(median=2.0, lower=1.75, upper=3.0)
    assert one.seconds == Spread(median=3.0, lower=2.5, upper=21.5)


def test_no_ratio_of_separate_runs():
    one, other = (paired_costs({"": list}, repeats=1)[""] for _ in range(2))
    with pytest.raises(ValueError, match=r"of one run, got those of two: .* by one "):
        one.over(other)


def test_one_number_has_no_spread():
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)
