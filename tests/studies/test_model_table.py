"""Counts from code equal the published figures."""

import pytest
from rich.console import Console

from mmrev.studies.model_table import (
    FLOPS_TOLERANCE,
    PARAMS_TOLERANCE,
    Published,
    count,
    deviation,
    model_table,
)
from mmrev.studies.published import ROWS


@pytest.mark.ci
@pytest.mark.slow  # the families' own tests count in the quick ones
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.model)
def test_counts_equal_the_published_figures(row):
    counted = count(row)
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


def test_activated_parameters_stand_beside_all(capsys):
    arch = {"embed_dims": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2]}
    config = {"type": "mmrev.SwinTransformerV2", "arch": arch, "window_size": 4}
    dense, sparse = (
        Published("a Swin", {**config, **more}, 64, None, None, "nowhere")
        for more in ({}, {"moe": {"num_experts": 11}})
    )
    expert, router = 2 * 64 * 256 + 64 + 256, 11 * 64
    counted = count(sparse)
    assert counted.activated - router == count(dense).params
    assert counted.params == counted.activated + 10 * expert
    console = Console(width=120)
    console.print(model_table([dense, sparse]))
    printed = capsys.readouterr().out
    assert f" {counted.params / 1e6:.2f} ({counted.activated / 1e6:.2f}) " in printed
    assert printed.count("(0.") == 1
