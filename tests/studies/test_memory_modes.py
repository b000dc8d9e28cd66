"""The memory modes save what they claim to: bytes are exact, so this is a test."""

import pytest
import torch

from mmrev.measure.memory import peak_memory
from mmrev.studies.memory_modes import (
    STOCK,
    compare_costs,
    growth_per_column,
    parameter_gradient,
)

pytestmark = [pytest.mark.ci, pytest.mark.slow]

MEGABYTE = 2**20


def test_peak_memory_sees_what_is_freed_again():
    def step():
        first = torch.ones(3 * MEGABYTE // 4)
        del first
        return torch.ones(2 * MEGABYTE // 4)

    assert peak_memory(step) == pytest.approx(3 * MEGABYTE, rel=0.01)


@pytest.fixture(scope="module")
def peaks():
    return {cost.mode: cost.peak for cost in compare_costs("tiny", 128, repeats=1)}


def test_recompute_needs_no_more_than_stock_checkpoints(peaks):
    assert peaks["recompute"] <= peaks[STOCK]
    assert peaks["recompute"] < peaks["store"] / 4


def test_reverse_needs_no_more_than_recompute(peaks):
    assert peaks["reverse"] <= peaks["recompute"]


@pytest.mark.parametrize(("mode", "most"), [("recompute", 1.02), ("reverse", 0.27)])
def test_growth_per_column(mode, most):
    assert growth_per_column("tiny", 96, mode, counts=(8, 16)) <= most


def test_gradients_agree_with_double_precision():
    case = ("tiny", 64, 4, 0.5)
    exact = parameter_gradient(*case, "store", dtype=torch.float64)
    for mode, bound in (("store", 1e-5), ("recompute", 1e-5), ("reverse", 1e-3)):
        error = (parameter_gradient(*case, mode) - exact).norm() / exact.norm()
        assert error < bound
