"""Counts from code equal the published figures."""

import pytest

from mmrev.studies.model_table import (
    FLOPS_TOLERANCE,
    PARAMS_TOLERANCE,
    Count,
    _counted,
    count,
    deviation,
)
from mmrev.studies.published import ROWS


@pytest.mark.ci
@pytest.mark.slow  # the families' own tests count in the quick ones
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.model)
def test_counts_equal_the_published_figures(row):
    counted = count(row)
    assert (counted.activated < counted.params) == ("moe" in row.config)
    assert abs(deviation(row.params, 1e6, counted.params)) <= PARAMS_TOLERANCE
    assert abs(deviation(row.flops, 1e9, counted.flops)) <= FLOPS_TOLERANCE


@pytest.mark.parametrize(
    ("printed", "counted", "expected"),
    [
        ("28.35", 28_354_999, 0.0),
        ("28.35", 28_355_001, 5.001e3 / 28.35e6),
        ("30", 29_600_000, 0.0),
        ("2.1E3", 2_149_000_000, 0.0),
        (None, 5, 0.0),
    ],
)
def test_rounding_is_no_deviation(printed, counted, expected):
    assert deviation(printed, 1e6, counted) == pytest.approx(expected)


def test_activated_parameters_stand_beside_all():
    assert _counted(Count(3_000_000, 3_000_000, 5)) == "3.00"
    assert _counted(Count(3_000_000, 1_234_567, 5)) == "3.00 (1.23)"
