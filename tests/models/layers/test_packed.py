"""Packed layers give what plain ones give, and only where no gradient is wanted."""

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close

from mmrev.models.layers import packed
from mmrev.models.layers.conv import Conv2d
from mmrev.models.layers.linear import Linear
from mmrev.models.layers.ws_conv import WSConv2d

PLAIN = {None: lambda x: x, **packed.ACTIVATIONS}
sees_avx512 = pytest.mark.skipif(
    not packed.HAS_AVX512, reason="packed layers need AVX-512"
)


@pytest.mark.parametrize("activation", PLAIN)
@pytest.mark.parametrize("bias", [False, True])
def test_linear(activation, bias):
    torch.manual_seed(0)
    weight, bias = torch.randn(9, 6), torch.randn(9) if bias else None
    run = packed.packed_linear(weight, torch.float32, activation)
    for shape in [(1,), (5,), (2, 3, 200)]:
        x = torch.randn(*shape, 6)
        assert_close(run(x, bias), PLAIN[activation](F.linear(x, weight, bias)))


@pytest.mark.parametrize("activation", PLAIN)
@pytest.mark.parametrize(
    ("kernel", "stride", "groups"),
    [(1, 1, 1), (1, 1, 2), (3, 1, 1), (3, 2, 4), (7, 1, 8)],
)
def test_conv(kernel, stride, groups, activation):
    """Of other sizes and memory orders, too, than that of the first map."""
    torch.manual_seed(0)
    weight, bias = torch.randn(16, 8 // groups, kernel, kernel), torch.randn(16)
    settings = dict(stride=stride, padding=kernel // 2, groups=groups)
    first = torch.randn(1, 8, 12, 10)
    run = packed.packed_conv(
        first, weight, torch.float32, activation=activation, **settings
    )
    for x in (first, torch.randn(3, 8, 7, 31).to(memory_format=torch.channels_last)):
        result = run(x, bias)
        assert_close(result, PLAIN[activation](F.conv2d(x, weight, bias, **settings)))
        assert result.is_contiguous(memory_format=torch.channels_last)


LAYERS = {
    "linear": lambda: (Linear(6, 9, activation="gelu"), torch.randn(80, 6)),
    "conv": lambda: (Conv2d(6, 8, 3, 2, padding=1), torch.randn(1, 6, 9, 8)),
    "standardised": lambda: (
        WSConv2d(6, 9, 3, 2, activation="gelu"),
        torch.randn(1, 6, 9, 8),
    ),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    return LAYERS[request.param]()


def times_packed(monkeypatch, call):
    """How often oneDNN's operators ran, whether or not packed."""
    calls = []
    for name in ("packed_linear", "packed_conv"):
        for module in ("linear", "conv", "ws_conv"):
            place = f"mmrev.models.layers.{module}.{name}"
            pack = getattr(packed, name)

            def counted(*args, pack=pack, **kwargs):
                run = pack(*args, **kwargs)
                return lambda *inputs: calls.append(1) or run(*inputs)

            monkeypatch.setattr(place, counted, raising=False)
    call()
    return len(calls)


@sees_avx512
def test_is_used_in_evaluation_mode(layer, monkeypatch):
    module, x = layer
    expected = module(x)
    module.eval()
    with torch.no_grad():
        assert times_packed(monkeypatch, lambda: assert_close(module(x), expected)) == 1


@sees_avx512
def test_frozen_layers_use_it_until_an_input_wants_a_gradient(layer, monkeypatch):
    module, x = layer
    module.eval().requires_grad_(False)
    assert times_packed(monkeypatch, lambda: module(x)) == 1
    x.requires_grad_()
    assert times_packed(monkeypatch, lambda: module(x).sum().backward()) == 0
    assert x.grad.abs().sum() > 0


@pytest.mark.skipif(
    torch.bfloat16 not in packed._DTYPES, reason="the processor knows no bfloat16"
)
def test_bfloat16_takes_its_turn_with_float32(layer, monkeypatch):
    """As autocast would, and in whichever order; one of both is kept."""
    module, x = layer
    expected = module(x)
    module.eval()
    half = torch.autocast("cpu", torch.bfloat16)(module)
    with torch.no_grad():
        for run, dtype in [(half, torch.bfloat16), (module, torch.float32)] * 2:
            result = run(x)
            assert result.dtype == dtype
            assert_close(result.float(), expected, dtype)
        assert times_packed(monkeypatch, lambda: half(x)) == 1


ELSEWHERE = {
    "training": lambda m, x: m.train()(x),
    "gradients": lambda m, x: torch.enable_grad()(m)(x),
    "another dtype": lambda m, x: m.double()(x.double()),
    "fp16 autocast": lambda m, x: torch.autocast("cpu", torch.float16)(m)(x),
    "no pixels": lambda m, x: m(x[:0]),
    "traced": lambda m, x: torch.jit.trace(m, x, check_trace=False)(x),
}


@pytest.mark.parametrize("way", ELSEWHERE.values(), ids=ELSEWHERE)
def test_is_not_used_elsewhere(layer, way, monkeypatch):
    module, x = layer
    module.eval()
    with torch.no_grad():
        assert times_packed(monkeypatch, lambda: way(module, x)) == 0


def test_without_avx512(layer, monkeypatch):
    monkeypatch.setattr(packed, "HAS_AVX512", False)
    module, x = layer
    module.eval()
    with torch.no_grad():
        assert times_packed(monkeypatch, lambda: module(x)) == 0


CHANGES = {
    "optimizer": lambda w: torch.optim.SGD([w], lr=1.0).step(),
    "in place": lambda w: w.copy_(torch.randn_like(w)),
    "data": lambda w: setattr(w, "data", torch.randn_like(w)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_follows_the_weights(layer, change):
    module, x = layer
    module.eval()
    module.weight.grad = torch.randn_like(module.weight)
    with torch.no_grad():
        before = module(x)
        change(module.weight)
        after = module(x)
        module.train()  # computes anew, plainly
        assert_close(after, module(x))
    assert not torch.allclose(before, after)


def test_a_fused_optimizer_is_noticed(layer):
    """It writes without counting a version; gradients flowed before."""
    module, x = layer
    module.eval()
    with torch.no_grad():
        module(x)
    module(x).square().sum().backward()
    torch.optim.AdamW([module.weight], lr=1.0, fused=True).step()
    with torch.no_grad():
        after = module(x)
        assert_close(after, module.train()(x))
