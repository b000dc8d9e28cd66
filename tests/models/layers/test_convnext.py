"""The ConvNeXt block and its scaled linear."""

import copy

import pytest
import torch
from tolerances import assert_close
from torch import nn

from mmrev.models.layers.convnext import ConvNeXtBlock, scaled_linear


def plain(x, linear, scale):
    return scale * linear(x)


def gradients(call, x, linear, scale, autocast):
    tensors = [t for t in (x, *linear.parameters(), scale) if t.requires_grad]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = call(nn.functional.gelu(x), linear, scale)
    weights = torch.linspace(-1, 1, result.numel()).view_as(result)
    loss = (result * weights).sum()
    return result, torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("frozen", ["nothing", "x", "linear"])
@pytest.mark.parametrize("autocast", [False, True])
def test_scaled_linear_is_scale_times_linear(frozen, autocast):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6).requires_grad_(frozen != "x")
    linear = nn.Linear(6, 4).requires_grad_(frozen != "linear")
    scale = torch.randn(4).requires_grad_(frozen != "linear")
    inputs = x, linear, scale, autocast
    result, actual = gradients(scaled_linear, *inputs)
    expected_result, expected = gradients(plain, *inputs)
    assert torch.equal(result, expected_result)
    assert result.dtype == expected_result.dtype == torch.float32
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, torch.bfloat16 if autocast else None)


@pytest.mark.parametrize("initial", [0.0, 1e-6])
@pytest.mark.parametrize(
    ("dtype", "size"),
    [(torch.float16, 10.0), (torch.float32, 1e6), (torch.float32, 1e-6)],
    ids=["fp16", "fp16 autocast, large", "fp16 autocast, small"],
)
def test_fp16_gradients_are_those_of_float64(dtype, size, initial):
    """Sums may be past fp16's range and addends below it where gradients are not."""
    torch.manual_seed(0)
    x = nn.functional.gelu(torch.randn(40_000, 8)).half()
    linear = nn.Linear(8, 4)
    for parameter in linear.parameters():
        nn.init.normal_(parameter, std=0.02)
    linear, scale = linear.to(dtype), torch.full((4,), initial, dtype=dtype)

    def gradients(call, x, linear, scale):
        scale = scale.requires_grad_()
        result = call(x, linear, scale)
        gradient = torch.full_like(result, size)
        return torch.autograd.grad(result, [*linear.parameters(), scale], gradient)

    exact = x.double(), copy.deepcopy(linear).double(), scale.double()
    expected = gradients(plain, *exact)
    with torch.autocast("cpu", torch.float16, enabled=dtype != torch.float16):
        actual = gradients(scaled_linear, x, linear, scale)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one.double(), other, torch.float16)


def test_gradcheck():
    torch.manual_seed(0)
    linear = nn.Linear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def call(x, scale, *_):
        return scaled_linear(x, linear, scale)

    assert torch.autograd.gradcheck(call, (x, scale, *linear.parameters()))


def test_block_drops_the_branch_of_a_sample():
    torch.manual_seed(0)
    block = ConvNeXtBlock(4, drop_path_rate=0.5, layer_scale_init_value=1.0)
    x = torch.randn(64, 4, 5, 5)
    kept = (block.train()(x) - x).flatten(1).abs().amax(1) > 0
    assert 0 < kept.sum() < 64


@pytest.mark.parametrize("size", [(3, 5), (24, 24)])
@pytest.mark.parametrize("autocast", [False, True])
def test_evaluation_without_gradients_is_the_block_with_them(size, autocast):
    torch.manual_seed(0)
    block = ConvNeXtBlock(8, drop_path_rate=0.5, layer_scale_init_value=0.7).eval()
    x = torch.randn(2, 8, *size)

    def call():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return block(x)

    expected = call()
    with torch.no_grad():
        result = call()
        # What is kept of the weights follows them.
        block.pwconv2.weight.mul_(2)
        block.pwconv2.bias.mul_(2)
        doubled = call()
    assert result.dtype == expected.dtype == torch.float32
    dtype = torch.bfloat16 if autocast else None
    assert_close(result, expected, dtype)
    assert_close(doubled - x, 2 * (expected - x), dtype)
