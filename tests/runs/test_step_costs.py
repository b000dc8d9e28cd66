"""Peaks told from samples: of phases that grow, on devices that share."""

import pytest

from mmrev.measure.phases import Phase
from mmrev.runs.costs import Sample, StepCosts, WeightCosts

WEIGHTS = WeightCosts(
    weights=100, gradients=80, state=160, copies=20, update=8, gathered=20
)


def grown(batch: int, pixels: int) -> list[Phase]:
    """A large phase that hardly grows, and a small one that soon outgrows it."""
    return [
        Phase("before a", 1000 + 10 * batch, 0),
        Phase("gradient", 10 + batch * pixels // 64, 50),
        Phase("gradient", 0, 80),
    ]


def costs(*sizes: tuple[int, int]) -> StepCosts:
    samples = [
        Sample(size, batch, grown(batch, size[0] * size[1]))
        for size in sizes
        for batch in (1, 2)
    ]
    return StepCosts(WEIGHTS, samples)


def test_the_peak_is_that_of_the_phase_that_is_highest_there():
    found = costs((64, 64), (128, 64))
    held = 100 + 160 + 20
    assert found.peak(1, (64, 64)) == pytest.approx(held + 1010)
    assert found.peak(3, (64, 64)) == pytest.approx(held + 1030)
    large = 10 + 4 * 512 * 256 / 64 + 50  # gradients that are ready by then
    assert found.peak(4, (512, 256)) == pytest.approx(held + large)


def test_one_size_tells_of_any_batch():
    assert costs((64, 64)).peak(5, (64, 64)) == pytest.approx(280 + 1050)


def test_what_devices_share():
    found = costs((64, 64), (128, 64))
    size, batch = (512, 256), 4
    step = 10 + batch * 512 * 256 / 64
    assert found.peak(batch, size, "ddp", 8) == pytest.approx(280 + 80 + step + 50)
    shared = 280 / 8 + 2 * 20 + step + 50 / 8
    assert found.peak(batch, size, "fsdp", 8) == pytest.approx(shared)


def test_the_update_may_be_the_peak():
    sample = Sample((8, 8), 1, [Phase("", 1, 0), Phase("gradient", 0, 80)])
    found = StepCosts(WEIGHTS, [sample])
    assert found.peak(1, (8, 8)) == pytest.approx(280 + 80 + 8)


def test_other_phases_at_another_size_are_told_as_one():
    samples = [
        Sample((8, 8), 1, [Phase("", 5, 0), Phase("gradient", 0, 80)]),
        Sample((8, 8), 2, [Phase("", 9, 0), *[Phase("gradient", 0, 80)] * 2]),
    ]
    found = StepCosts(WEIGHTS, samples)
    assert found.peak(3, (8, 8)) == pytest.approx(280 + 80 + 13)
