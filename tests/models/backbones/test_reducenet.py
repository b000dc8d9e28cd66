"""ReduceNet: sizes, the two forms, chains, what activation_free claims."""

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close
from torch import nn

from mmrev.measure.memory import peak_memory
from mmrev.models.backbones.reducenet import ARCHITECTURES, ReduceNet
from mmrev.models.layers import FadedReLU

SMALL = {"channels": [8, 12, 16, 24], "depths": [2, 1, 3, 1], "expansion": 2}
FREE = {"activation_free": True}
CHAINED = {"activation_free": True, "chain": "pre-pad"}
KINDS = pytest.mark.parametrize(
    "kind", [{}, FREE, CHAINED], ids=["default", "activation free", "pre-pad"]
)
SIZES = pytest.mark.parametrize(
    "size", [(64, 96), (67, 93), (33, 1), (1, 1), (100, 36)]
)


def set_fade(model, value):
    for module in model.modules():
        if isinstance(module, FadedReLU):
            module.fade.fill_(value)


def small(fade=0.0, **settings):
    torch.manual_seed(0)
    model = ReduceNet(**{"arch": SMALL, **settings})
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.3)
    set_fade(model, fade)
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_named_sizes(arch):
    """Layers with weights as ResNet's: two a block, stem, classifier; one deployed."""
    with torch.device("meta"):
        model, deployed = ReduceNet(arch), ReduceNet(arch, deploy=True)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) + 1 == int(arch)
    expansion = {"18": 1, "34": 2, "50": 4}[arch]
    assert convs[1].out_channels == expansion * 64
    fused = [m for m in deployed.modules() if isinstance(m, nn.Conv2d)]
    assert len(fused) == 1 + sum(ARCHITECTURES[arch]["depths"])
    assert {conv.kernel_size for conv in fused} == {(3, 3)}


@KINDS
@SIZES
def test_deployed_form_is_equal_up_to_the_border(size, kind):
    model = small(**kind).double().eval()
    image = torch.randn(2, 3, *size, dtype=torch.double)
    expected = model(image)
    model.switch_to_deploy()
    assert not any(isinstance(m, nn.BatchNorm2d | FadedReLU) for m in model.modules())
    for level, wanted in zip(model(image), expected, strict=True):
        assert_close(level, wanted)


def kernel_sizes(model):
    return [m.kernel_size[0] for m in model.modules() if isinstance(m, nn.Conv2d)]


def test_chains_are_fused_only_where_that_is_exact_and_cheaper():
    for kind in ({}, FREE):
        assert kernel_sizes(small(deploy=True, **kind)) == [3] * (1 + 2 + 1 + 3 + 1)
    chained = small(deploy=True, **CHAINED)
    # The stem and two blocks, from 3 channels: 15x15 of 3 x 8 products instead of three
    # 3x3. Elsewhere two 3x3 would become a dearer 7x7 or 5x5.
    wide = {**SMALL, "channels": [64, 64, 64, 64]}
    assert kernel_sizes(small(arch=wide, deploy=True, **CHAINED))[0] == 15
    assert kernel_sizes(chained)[1:] == [3] * (len(kernel_sizes(chained)) - 1)


@KINDS
def test_deployed_weights_load_into_what_the_config_builds(kind):
    settings = {"arch": {**SMALL, "channels": [32, 12, 16, 24]}, **kind}
    model, image = small(**settings).eval(), torch.randn(1, 3, 64, 64)
    expected = model(image)
    model.switch_to_deploy()
    built = small(deploy=True, **settings).eval()
    built.load_state_dict(model.state_dict(), strict=True)
    for level, wanted in zip(built(image), expected, strict=True):
        assert_close(level, wanted)


def deviation_from_affine(model):
    """Of f(a x + (1 - a) y) from a f(x) + (1 - a) f(y), relative, at any level."""
    x, y = torch.randn(2, 1, 3, 67, 93, dtype=torch.double)
    mixed, ends = model(0.3 * x + 0.7 * y), zip(model(x), model(y), strict=True)
    return max(
        ((level - (0.3 * one + 0.7 * other)).abs().max() / level.abs().max()).item()
        for level, (one, other) in zip(mixed, ends, strict=True)
    )


@pytest.mark.parametrize("kind", [FREE, CHAINED], ids=["activation free", "pre-pad"])
def test_activation_free_is_affine_in_its_input_at_fade_0_and_not_before(kind):
    """So all it can tell of an image is what one linear layer could."""
    model = small(**kind).double().eval()
    assert deviation_from_affine(model) < 1e-12
    set_fade(model, 0.01)
    assert deviation_from_affine(model) > 1e-6


def test_default_keeps_a_nonlinearity_between_fused_blocks():
    model = small().double().eval()
    assert deviation_from_affine(model) > 1e-2
    model.switch_to_deploy()
    assert deviation_from_affine(model) > 1e-2


@pytest.mark.parametrize("fade", [0.0, 0.3, 1.0])
def test_block_is_the_published_one(fade):
    block = small(fade, **FREE).stages[2][1].eval()
    conv1, bn1, _, conv2, bn2 = block.body
    x = torch.randn(2, 16, 7, 9)
    out = bn1(F.conv2d(x, conv1.weight, padding=1))
    out = fade * F.relu(out) + (1 - fade) * out
    expected = bn2(F.conv2d(out, conv2.weight)) + x
    assert_close(block(x), expected)
    first = small(fade, **FREE).stages[2][0].eval()
    assert first(torch.randn(2, 12, 7, 9)).shape == (2, 16, 4, 5)


def test_an_unfinished_fade_is_not_deployed_and_warns():
    model = small(0.125).eval()
    with pytest.raises(ValueError, match=r"ReduceNet: .* \(0\) to deploy, got 0.125"):
        model.switch_to_deploy()
    with pytest.warns(UserWarning, match=r"ReduceNet is evaluated at fade 0.125"):
        model(torch.randn(1, 3, 32, 32))


@KINDS
def test_recomputing_changes_neither_gradients_nor_statistics(kind):
    results = {}
    for memory in ("store", "recompute"):
        model = small(0.4, memory=memory, drop_path_rate=0.5, **kind)
        torch.manual_seed(1)
        levels = model(torch.randn(4, 3, 61, 70))
        sum((level**2).mean() for level in levels).backward()
        gradients = {n: p.grad for n, p in model.named_parameters()}
        results[memory] = gradients | dict(model.named_buffers())
    assert results["store"]["stages.2.1.body.1.num_batches_tracked"] == 1
    for name, tensor in results["recompute"].items():
        assert torch.equal(tensor, results["store"][name]), name


@pytest.mark.ci
@pytest.mark.slow
def test_recomputing_saves_memory():
    peaks = {}
    for memory in ("store", "recompute"):
        model = small(memory=memory)
        image = torch.randn(2, 3, 256, 256)
        peaks[memory] = peak_memory(
            lambda: sum(level.sum() for level in model(image)).backward()  # noqa: B023
        )
    assert peaks["recompute"] < 0.7 * peaks["store"]


def test_drop_path_spares_what_has_no_shortcut():
    model = small(drop_path_rate=0.5)
    rates = [
        getattr(block.drop_path, "drop_prob", 0.0)
        for stage in model.stages
        for block in stage
    ]
    assert rates == pytest.approx([0, 1 / 12, 0, 0, 4 / 12, 5 / 12, 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "101"}, "arch must be one of 18, 34, 50 or a dict, got '101'"),
        ({"arch": {"channels": [1] * 4}}, "has the keys channels, depths, expansion"),
        ({"arch": {**SMALL, "depths": [1, 1]}}, "depths must be 4 numbers"),
        ({"arch": {**SMALL, "expansion": 0}}, "expansion must be >= 1, got 0"),
        ({"chain": "pre-pad"}, "Set that to True, or chain to None"),
        ({"chain": "pad", **FREE}, "chain must be None or 'pre-pad', got 'pad'"),
    ],
)
def test_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ReduceNet(**{"arch": SMALL, **settings})
