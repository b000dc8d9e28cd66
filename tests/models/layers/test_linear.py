import pytest
import torch
from tolerances import assert_close
from torch import nn

from mmrev.models.layers.linear import Linear


@pytest.mark.parametrize("shape", [(2, 20, 10), (3, 5), (600, 1, 1), (0, 7)])
@pytest.mark.parametrize("channels", [(6, 9), (9, 6)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("avx512", [False, True])
def test_is_torchs_linear(shape, channels, bias, dtype, avx512, monkeypatch):
    """Values, gradients and memory order, above and below the numbers of rows."""
    monkeypatch.setattr("mmrev.models.layers.linear.HAS_AVX512", avx512)
    torch.manual_seed(0)
    layer = Linear(*channels, bias=bias, dtype=dtype)
    x = torch.randn(*shape, channels[0], dtype=dtype, requires_grad=True)
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    weights = [x, *layer.parameters()]
    direction = torch.randn_like(expected)
    actual = layer(x)
    assert actual.stride() == expected.stride()
    for computed, other in zip(
        [actual, *torch.autograd.grad((actual * direction).sum(), weights)],
        [expected, *torch.autograd.grad((expected * direction).sum(), weights)],
        strict=True,
    ):
        if other.numel():
            assert_close(computed, other)
    with torch.no_grad():
        assert torch.allclose(layer(x), expected, atol=1e-6)


def test_gradients_that_are_one_number():
    """Of a sum they take no memory of their own."""
    layer, x = Linear(6, 9), torch.randn(300, 6, requires_grad=True)
    layer(x).sum().backward()
    assert_close(x.grad, layer.weight.detach().sum(0).expand(300, 6))
    assert_close(layer.weight.grad, x.detach().sum(0).expand(9, 6))


def test_autocast():
    layer, x = Linear(6, 9), torch.randn(300, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
