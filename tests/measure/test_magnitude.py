"""Sizes of streamed values are those of all at once."""

import math

import pytest
import torch

from mmrev.measure.magnitude import Magnitude


def test_streamed_is_at_once():
    values = 3 + torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(0))
    found = Magnitude()
    for part in values.split(2):
        found.add(part)
    values = values.double()
    assert found.rms == pytest.approx(float(values.square().mean().sqrt()))
    assert found.std == pytest.approx(float(values.std(correction=0)))
    assert found.max == pytest.approx(float(values.abs().max()))


def test_of_constants_nothing_is_left_but_rounding():
    found = Magnitude()
    found.add(torch.full((1000,), -0.1))
    assert found.std < 1e-8 and found.rms == pytest.approx(0.1)
    assert found.max == pytest.approx(0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_shows(value):
    found = Magnitude()
    for values in ([1.0, value], [2.0]):
        found.add(torch.tensor(values))
    assert not any(map(math.isfinite, (found.rms, found.std, found.max)))
