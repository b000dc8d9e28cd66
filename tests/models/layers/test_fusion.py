"""The algebra of linear layers, at fp64: exact where it says so, refused elsewhere."""

from functools import reduce

import pytest
import torch
from tolerances import assert_close
from torch import nn

from mmrev.models.layers import FadedReLU, Kernel, cheapest_grouping


def conv(inside, outside, size, **settings):
    return nn.Conv2d(inside, outside, size, **settings).double()


def norm(channels):
    layer = nn.BatchNorm2d(channels).double()
    for tensor in (layer.weight, layer.bias, layer.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(layer.running_var, 0.5, 2)
    return layer.eval()


def finished():
    layer = FadedReLU()
    layer.fade.zero_()
    return layer


def run(kernel, x):
    return kernel.to_conv(like=x)(x)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_conv_and_norm(bias, groups, affine):
    layers = nn.Sequential(
        conv(4, 4, 7, padding=3, groups=groups, bias=bias),
        norm(4) if affine else nn.BatchNorm2d(4, affine=False).double().eval(),
    )
    x = torch.randn(2, 4, 9, 8, dtype=torch.double)
    fused = Kernel.of(layers).to_conv(like=x)
    assert (fused.groups, fused.kernel_size) == (groups, (7, 7))
    assert_close(fused(x), layers(x))


@pytest.mark.parametrize("stride", [1, 2])
def test_three_by_three_before_one_by_one_with_identity(stride):
    layers = nn.Sequential(
        conv(3, 8, 3, stride=stride, padding=1, bias=False),
        norm(8),
        finished(),
        conv(8, 3, 1),
        norm(3),
    )
    x = torch.randn(2, 3, 9, 8, dtype=torch.double)
    kernel = Kernel.of(layers)
    assert (kernel.size, kernel.stride, kernel.padding) == (3, stride, 1)
    assert_close(run(kernel, x), layers(x))
    if stride == 1:
        assert_close(run(kernel.plus_identity(), x), layers(x) + x)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("height", [5, 8, 9])
def test_one_by_one_without_bias_before_padding(stride, height):
    first, second = conv(3, 5, 1, stride=stride, bias=False), conv(5, 4, 3, padding=1)
    x = torch.randn(2, 3, height, 7, dtype=torch.double)
    fused = Kernel.of(first).then(Kernel.of(second))
    assert_close(run(fused, x), second(first(x)))


@pytest.mark.parametrize(
    "first",
    [
        conv(3, 5, 1, bias=True),
        conv(3, 5, 1, bias=False, padding=1),
        conv(3, 5, 3, bias=False, padding=1),
    ],
    ids=["bias", "padding", "three by three"],
)
def test_what_holds_in_the_interior_only_is_refused(first):
    second = conv(5, 4, 3, padding=1)
    with pytest.raises(ValueError, match="second convolution without padding"):
        Kernel.of(nn.Sequential(first, second))
    x = torch.randn(1, 3, 8, 8, dtype=torch.double)
    second.padding = (0, 0)
    fused = Kernel.of(first).then(Kernel.of(second))
    assert_close(run(fused, x), second(first(x)))


@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 1, 1), (2, 2, 1), (3, 1, 2)])
@pytest.mark.parametrize("height", [9, 16, 31])
def test_padding_once_makes_a_chain_exact_everywhere(strides, height):
    convs = [conv(2, 2, 3, stride=stride) for stride in strides]
    convs[0].padding = (1 + strides[0] + strides[0] * strides[1],) * 2
    fused = reduce(Kernel.then, map(Kernel.of, convs))
    assert fused.size == 1 + 2 * (1 + strides[0] + strides[0] * strides[1])
    x = torch.randn(2, 2, height, 12, dtype=torch.double)
    assert_close(run(fused, x), nn.Sequential(*convs)(x))


def test_unfinished_and_nonlinear_layers_are_refused():
    with pytest.raises(ValueError, match=r"fade is finished \(0\), got 1"):
        Kernel.of([conv(2, 2, 1), FadedReLU()])
    with pytest.raises(ValueError, match=r"got ReLU\. It has to stay outside"):
        Kernel.of([conv(2, 2, 1), nn.ReLU()])


def grouping(*layers):
    return cheapest_grouping([Kernel.of(layer) for layer in layers])


def test_a_chain_is_fused_only_where_that_is_cheaper_and_exact():
    same = [conv(8, 8, 3) for _ in range(3)]
    assert grouping(*same) == [1, 1, 1]  # 25 products instead of 18
    assert grouping(conv(8, 8, 3), conv(8, 8, 1)) == [2]
    assert grouping(conv(8, 64, 3), conv(64, 8, 3)) == [2]
    assert grouping(conv(8, 64, 3), conv(64, 8, 3, padding=1)) == [1, 1]
    # The pair (1x1, padded 3x3) composes exactly, the three of them do not.
    pointwise = conv(64, 64, 1, bias=False)
    chain = (conv(8, 64, 3), pointwise, conv(64, 64, 3, padding=1))
    assert grouping(*chain) in ([2, 1], [1, 2])
    stem = (conv(3, 64, 3, stride=2), conv(64, 64, 3, stride=2), conv(64, 64, 3))
    assert grouping(*stem, conv(64, 256, 3, stride=2)) == [3, 1]


def test_shapes_are_enough():
    with torch.device("meta"):
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), FadedReLU())
    made = Kernel.of(layers).to_conv(like=layers[0].weight)
    assert (made.weight.shape, made.weight.device.type) == ((8, 3, 3, 3), "cpu")
    assert made.weight.std() > 0


def test_fp32_layers_are_fused_in_fp64():
    first, second = nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 1)
    fused = Kernel.of([first, second]).to_conv(like=first.weight)
    exact = second.weight.double().flatten(1) @ first.weight.double().flatten(1)
    assert fused.weight.dtype == torch.float32
    assert torch.equal(fused.weight.flatten(1), exact.float())
