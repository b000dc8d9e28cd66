"""Standardised convolutions: values, gradients, padding, and what is kept."""

import copy

import pytest
import torch
from mmengine.hooks import EMAHook
from timm.layers import ScaledStdConv2dSame
from tolerances import assert_close
from torch import nn

from mmrev.models.layers import WSConv2d
from mmrev.models.layers.ws_conv import GELU_GAMMA, gelu


def composed(weight, gain, flavour):
    """The papers' formula in torch's own functions."""
    variance = weight.var((1, 2, 3), correction=0, keepdim=True)
    mean = weight.mean((1, 2, 3), keepdim=True)
    fan_in = weight[0].numel()
    if flavour == "timm":
        scale = ((variance + 1e-5) * fan_in).rsqrt()
    else:
        scale = (variance * fan_in).clamp(min=1e-4).rsqrt()
    return (weight - mean) * scale * gain.view(-1, 1, 1, 1)


def conv(*args, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    module = WSConv2d(*args, **settings).to(dtype)
    with torch.no_grad():
        module.gain.uniform_(0.5, 1.5)
    return module


@pytest.mark.parametrize("flavour", ["deepmind", "timm"])
def test_equals_the_formula_and_its_gradient(flavour):
    module = conv(3, 6, 3, flavour=flavour, input_scale=1.7)
    with torch.no_grad():  # some rows far below the floor, one of them constant
        scale = torch.tensor([1, 0.1, 1e-3, 1e-4, 1, 1], dtype=torch.float64)
        module.weight *= scale.view(-1, 1, 1, 1)
        module.weight[4:5] = 0.25 if flavour == "timm" else module.weight[4:5]
    weight, expected = (
        module.standardized_weight(),
        1.7 * composed(module.weight, module.gain, flavour),
    )
    assert_close(weight, expected)
    direction = torch.randn_like(weight)
    parameters = (module.weight, module.gain)
    for actual, wanted in zip(
        torch.autograd.grad(weight, parameters, direction),
        torch.autograd.grad(expected, parameters, direction),
        strict=True,
    ):
        for row in range(6):
            assert_close(actual[row], wanted[row])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_rows_in_fp32(dtype):
    """Values and gradients are within fp16's range, the sums over a row are not."""
    module = conv(512, 4, 3, dtype=dtype)
    with torch.no_grad():  # the last row far below the floor
        module.weight.normal_()[3] *= 1e-4
    exact = copy.deepcopy(module).double()
    weight = module.standardized_weight()
    expected = composed(exact.weight, exact.gain, "deepmind")
    direction = 100 * weight.detach().sign()
    for actual, wanted in zip(
        [weight, *torch.autograd.grad(weight, (module.weight, module.gain), direction)],
        [
            expected,
            *torch.autograd.grad(
                expected, (exact.weight, exact.gain), direction.double()
            ),
        ],
        strict=True,
    ):
        for row in range(4):
            assert_close(actual[row].double(), wanted[row], dtype)


def test_constant_kernels_give_zeros():
    module = conv(3, 4, 3, dtype=torch.float32)
    nn.init.constant_(module.weight, 0.3)
    weight = module.standardized_weight()
    weight.sum().backward()
    assert weight.abs().max() < 1e-4
    assert module.weight.grad.isfinite().all()


@pytest.mark.parametrize("flavour", ["deepmind", "timm"])
def test_sums_of_squares_are_one(flavour):
    weight = conv(32, 6, 3, flavour=flavour).standardized_weight().flatten(1)
    torch.testing.assert_close(weight.mean(1), torch.zeros(6, dtype=torch.float64))
    gain = conv(32, 6, 3).gain
    torch.testing.assert_close(weight.norm(dim=1), gain, rtol=0.01, atol=0)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 5), (2, 1), (6, 3)])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_padding_is_that_of_tensorflow(size, kernel, stride):
    module = conv(4, 6, kernel, stride, groups=2, flavour="timm")
    reference = ScaledStdConv2dSame(4, 6, kernel, stride, groups=2, eps=1e-5).double()
    state = module.state_dict()
    state["gain"] = state["gain"].view(-1, 1, 1, 1)
    reference.load_state_dict(state)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    result = module(x)
    assert result.shape[-2:] == tuple(-(-side // stride) for side in size)
    assert_close(result, reference(x))


@pytest.mark.parametrize("flavour", ["deepmind", "timm"])
def test_gamma_makes_unit_variance(flavour):
    torch.manual_seed(0)
    x = torch.randn(1_000_000)
    assert (GELU_GAMMA * gelu(flavour)(x)).std().item() == pytest.approx(1, rel=5e-3)


def test_flavours_of_gelu():
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    exact = x * (1 + torch.erf(x / 2**0.5)) / 2
    by_tanh = x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    torch.testing.assert_close(gelu("timm")(x), exact)
    torch.testing.assert_close(gelu("deepmind")(x), by_tanh)


class Counting(WSConv2d):
    count = 0

    def standardized_weight(self):
        self.count += 1
        return super().standardized_weight()


def kept(requires_grad=True):
    torch.manual_seed(0)
    module = Counting(3, 4, 3).eval().requires_grad_(requires_grad)
    with torch.no_grad():
        module(IMAGE), module(IMAGE)
    assert module.count == 1
    return module


IMAGE = torch.randn(1, 3, 5, 5)


def assert_fresh(module):
    """The output is that of the weights as they are now."""
    other = WSConv2d(3, 4, 3).to(module.weight.dtype)
    other.load_state_dict(module.state_dict())
    image = IMAGE.to(module.weight.dtype)
    with torch.no_grad():
        assert_close(module(image), other(image))


def step(module):
    module.weight.grad = torch.randn_like(module.weight)
    torch.optim.SGD([module.weight], lr=1.0).step()


CHANGES = {
    "optimizer step": step,
    "loading": lambda m: m.load_state_dict(WSConv2d(3, 4, 3).state_dict()),
    "assigning": lambda m: m.load_state_dict(
        WSConv2d(3, 4, 3).state_dict(), assign=True
    ),
    "another gain": lambda m: nn.init.constant_(m.gain, 0.5),
    "double": lambda m: m.double(),
    "half and back": lambda m: m.half().float(),
    "data and mode": lambda m: (m.weight.data.normal_(), m.eval()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_kept_kernels_follow_the_weights(change):
    module = kept()
    change(module)
    assert_fresh(module)


def test_nothing_is_kept_in_training():
    module = kept(requires_grad=False).train()
    module(IMAGE)
    module(IMAGE)
    assert module.count == 3


def test_kernels_of_a_frozen_module_are_kept_and_pass_gradients_on():
    module = kept(requires_grad=False)
    image = IMAGE.clone().requires_grad_()
    module(image)  # oneDNN's layout knows no gradient
    count = module.count
    module(image).sum().backward()
    assert module.count == count
    assert image.grad.abs().sum() > 0


def test_gradients_reach_the_weights_in_eval():
    module = kept()
    module(IMAGE).sum().backward()
    assert module.weight.grad.abs().sum() > 0


def test_average_models_are_swapped_in_and_out():
    """As mmengine's EMAHook: through .data, then the loop sets the mode."""
    module = kept()
    hook = EMAHook(momentum=0.5)
    hook.src_model = module
    hook.ema_model = nn.Module()
    hook.ema_model.update_buffers = False
    hook.ema_model.module = copy.deepcopy(module)
    nn.init.normal_(hook.ema_model.module.weight)
    for _ in range(2):
        hook._swap_ema_parameters()
        module.eval()
        assert_fresh(module)


def test_kernels_are_freed():
    module = kept()
    assert module._cache._value is not None
    module.train()
    assert module._cache._value is None
    assert not any("cache" in name for name in module.state_dict())
