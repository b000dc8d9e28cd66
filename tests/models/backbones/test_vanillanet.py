"""VanillaNet: sizes, shapes, the two forms, settings."""

import warnings
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close
from torch import nn

from mmrev.measure.memory import peak_memory
from mmrev.models.backbones.vanillanet import ARCHITECTURES, VanillaNet
from mmrev.models.layers import FadedReLU

SMALL = {"channels": [8, 8, 12, 16, 16, 24, 24], "strides": [1, 2, 2, 1, 2, 1]}
WITHOUT_FIRST = {"channels": [8, 12, 16, 24], "strides": [2, 2, 2]}


def randomise(model):
    """Statistics and weights of every norm, as after training; fades finished."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.3)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        elif isinstance(module, FadedReLU):
            module.fade.zero_()


def small(**settings):
    torch.manual_seed(0)
    model = VanillaNet(**{"arch": SMALL, **settings})
    model.init_weights()
    randomise(model)
    return model


def test_levels_are_the_last_maps_at_their_strides():
    """Of VanillaNet-13 the blocks 0, 1, 8 and 10, as the reference's detectors."""
    with torch.device("meta"):
        model = VanillaNet("13")
    assert model.channels == [512, 1024, 2048, 4096]
    ends = torch.tensor(model.depths).cumsum(0) - 1
    assert ends.tolist() == [0, 1, 8, 10]
    assert [len(stage) for stage in model.stages] == model.depths


@pytest.mark.parametrize("size", [(64, 96), (67, 93), (1, 33)])
@pytest.mark.parametrize("act_num", [1, 3])
@pytest.mark.parametrize("arch", [SMALL, WITHOUT_FIRST], ids=["with", "without"])
def test_deployed_form_is_equal(arch, act_num, size):
    model = small(arch=arch, act_num=act_num).double().eval()
    image = torch.randn(2, 3, *size, dtype=torch.double)
    expected = model(image)
    model.switch_to_deploy()
    for level, wanted in zip(model(image), expected, strict=True):
        assert_close(level, wanted)
    convs = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert convs == 2 * len(arch["channels"])
    assert not any(isinstance(m, nn.BatchNorm2d | FadedReLU) for m in model.modules())


def test_deployed_weights_load_into_what_the_config_builds():
    model, image = small(out_norm="layer_norm").eval(), torch.randn(1, 3, 64, 64)
    expected = model(image)
    model.switch_to_deploy()
    model.switch_to_deploy()  # once is enough
    built = small(out_norm="layer_norm", deploy=True).eval()
    assert built.deploy
    built.load_state_dict(model.state_dict(), strict=True)
    for level, wanted in zip(built(image), expected, strict=True):
        assert_close(level, wanted)


def test_an_unfinished_fade_is_not_deployed_and_warns():
    model = small().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(torch.randn(1, 3, 32, 32))
    model.stages[2][1].conv[2].fade.fill_(0.125)
    with pytest.raises(ValueError, match=r"VanillaNet: .* \(0\) to deploy, got 0.125"):
        model.switch_to_deploy()
    with pytest.warns(UserWarning, match=r"VanillaNet is evaluated at fade 0.125"):
        model.eval()(torch.randn(1, 3, 32, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train()(torch.randn(2, 3, 64, 64))


def test_series_activation_sums_shifted_activations():
    act = small(act_num=1).stages[0][0].act.eval()
    x = torch.randn(1, 8, 5, 6)
    padded = F.pad(x.relu(), [1] * 4)
    expected = sum(
        act.conv[0].weight[:, 0, y, z, None, None] * padded[..., y : y + 5, z : z + 6]
        for y in range(3)
        for z in range(3)
    )
    assert_close(act(x), act.conv[1](expected))


def gradients(memory, autocast=False):
    model = small(out_norm="layer_norm", memory=memory)
    for module in model.modules():
        if isinstance(module, FadedReLU):
            module.fade.fill_(0.4)
    torch.manual_seed(1)
    image = torch.randn(2, 3, 61, 70)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        levels = model(image)
    # Of norms alone the squares would not depend on the weights.
    sum(
        (level.float() * torch.randn_like(level.float())).sum() for level in levels
    ).backward()
    return {n: p.grad for n, p in model.named_parameters()}, dict(model.named_buffers())


@pytest.mark.parametrize("autocast", [False, True])
def test_recomputing_changes_neither_gradients_nor_statistics(autocast):
    expected, buffers = gradients("store", autocast)
    found, updated = gradients("recompute", autocast)
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name
    for name, buffer in updated.items():
        assert torch.equal(buffer, buffers[name]), name
    assert updated["stages.1.0.conv.1.num_batches_tracked"] == 1


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
    assert peaks["recompute"] < 0.5 * peaks["store"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "4"}, "arch must be one of 5, .*, 13 or a dict, got '4'"),
        ({"arch": {"channels": [1] * 4}}, "has the keys channels, strides, got"),
        ({"arch": {**SMALL, "strides": [2, 2, 2]}}, "one number more .* 7 and 3"),
        (
            {"arch": {"channels": [8] * 4, "strides": [2, 2, 1]}},
            r"three of them 2, .* got \[2, 2, 1\]",
        ),
        (
            {"arch": {"channels": [8] * 5, "strides": [2, 2, 2, 4]}},
            r"must be 1 or 2, .* got \[2, 2, 2, 4\]",
        ),
    ],
)
def test_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        VanillaNet(**{"arch": SMALL, **settings})


def test_official_widths_double_where_they_pool():
    for settings in ARCHITECTURES.values():
        doubles = [b // a for a, b in pairwise(settings["channels"])]
        assert doubles == settings["strides"]
