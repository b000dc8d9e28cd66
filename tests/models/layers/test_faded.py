"""The faded activation."""

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close

from mmrev.models.layers import FadedReLU, largest_fade


@pytest.mark.parametrize("fade", [0.0, 0.3, 1.0])
def test_is_a_leaky_relu_of_slope_one_minus_fade(fade):
    layer, x = FadedReLU(), torch.randn(100, requires_grad=True)
    layer.fade.fill_(fade)
    expected = F.leaky_relu(x, 1 - fade)
    assert_close(layer(x), expected)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x)
    (wanted,) = torch.autograd.grad(expected.square().sum(), x)
    assert_close(gradient, wanted)


def test_is_exact_at_both_ends_and_leaves_its_input_alone():
    """An in-place ReLU once kept a published network nonlinear at fade 0."""
    layer, x = FadedReLU(), torch.randn(100)
    before = x.clone()
    assert torch.equal(layer(x), x.relu())
    layer.fade.zero_()
    assert torch.equal(layer(x), before)
    assert torch.equal(x, before)


def test_fade_is_saved_and_keeps_the_dtype():
    layer = FadedReLU()
    layer.load_state_dict({"fade": torch.tensor(0.25)})
    assert largest_fade(torch.nn.Sequential(FadedReLU(), layer)) == 1.0
    assert largest_fade(layer) == 0.25
    assert layer(torch.randn(3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_no_fade_is_no_fade():
    assert largest_fade(torch.nn.ReLU()) == 0.0
    with torch.device("meta"):
        assert largest_fade(FadedReLU()) == 0.0
