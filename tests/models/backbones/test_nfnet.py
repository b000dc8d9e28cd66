"""NFNet: equality with its references, sizes, settings, signal propagation."""

from dataclasses import replace

import pytest
import torch
from goldens.closed_form import image, load_golden, parameter
from timm.models.nfnet import NormFreeNet, _dm_nfnet_cfg
from tolerances import assert_close

from mmrev.checkpoints import convert_state_dict
from mmrev.measure.flops import count_flops
from mmrev.measure.memory import peak_memory
from mmrev.models.backbones.nfnet import ARCHITECTURES, NFNet
from mmrev.models.layers import WSConv2d
from mmrev.models.necks import NFNetPooling

SMALL = {"channels": [16, 24, 32, 40], "depths": [1, 2, 2, 1], "group_width": 8}
GOLDEN = load_golden("nfnet")

# Of the classifiers, as the reference counts: google-deepmind/deepmind-research
# @f5de0ed, its parameters under jax.eval_shape and its count_flops at the test size in
# px. arXiv 2102.06171 prints the same figures, rounded, for F0 to F6.
REFERENCE = {
    "F0": (71_489_284, 12.384e9, 256),
    "F1": (132_634_256, 35.539e9, 320),
    "F2": (193_779_228, 62.593e9, 352),
    "F3": (254_924_200, 114.764e9, 416),
    "F4": (316_069_172, 215.241e9, 512),
    "F5": (377_214_144, 289.757e9, 544),
    "F6": (438_359_116, 377.280e9, 576),
    "F7": (499_504_088, 478.782e9, 608),
    "F0+": (118_824_516, 19.520e9, 256),
    "F1+": (220_357_008, 55.445e9, 320),
    "F2+": (321_889_500, 97.275e9, 352),
    "F3+": (423_421_992, 177.987e9, 416),
    "F4+": (524_954_484, 333.390e9, 512),
    "F5+": (626_486_976, 448.427e9, 544),
    "F6+": (728_019_468, 583.517e9, 576),
    "F7+": (829_551_960, 740.158e9, 608),
}


def small(**settings):
    torch.manual_seed(0)
    # Skip gains 1, or the branches would not count.
    settings = {"arch": SMALL, "skip_gain_init_value": 1.0, **settings}
    model = NFNet(**settings)
    model.init_weights()
    return model


@pytest.mark.parametrize(
    "arch",
    ["F0", "F1+"]
    + [
        pytest.param(arch, marks=pytest.mark.slow)
        for arch in ARCHITECTURES
        if arch not in ("F0", "F1+")
    ],
)
def test_params_and_flops(arch):
    params, flops, size = REFERENCE[arch]
    with torch.device("meta"):
        backbone = NFNet(arch)
        width = backbone.channels[-1]
        pooling, head = NFNetPooling(width), torch.nn.Linear(2 * width, 1000)
        pixels = torch.empty(1, 3, size, size)
    parts = torch.nn.ModuleList([backbone, pooling, head]).eval()
    assert sum(p.numel() for p in parts.parameters()) == params
    counted = count_flops(lambda x: head(*pooling(backbone(x))), pixels)
    assert counted == pytest.approx(flops, rel=1e-4)


def test_variants():
    assert set(ARCHITECTURES) == {f"F{n}{plus}" for n in range(8) for plus in ("", "+")}
    with torch.device("meta"):
        model = NFNet("F2+")
    assert model.depths == [3, 6, 18, 9]
    assert model.channels == [384, 768, 2048, 2048]
    widths = [m.weight.shape[0] for m in model.stem if hasattr(m, "weight")]
    assert widths == [16, 32, 64, 192]
    assert model.stages[0][0].conv2.weight.shape == (128, 128, 3, 3)  # 192 floored


@pytest.fixture(scope="module")
def timm_and_ours():
    torch.manual_seed(0)
    cfg = _dm_nfnet_cfg(depths=(1, 2, 2, 1), channels=(256, 64, 96, 128))
    reference = NormFreeNet(replace(cfg, group_size=16), num_classes=2).eval()
    with torch.no_grad():
        for name, p in reference.named_parameters():
            if name.endswith("gain"):
                p.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                p.uniform_(-0.2, 0.2)
    arch = {"channels": list(cfg.channels), "depths": list(cfg.depths)}
    model = NFNet({**arch, "group_width": 16}, flavour="timm").eval()
    model.load_state_dict(convert_state_dict(reference.state_dict()), strict=True)
    return reference, model


def timm_levels(reference, x):
    levels = []
    x = reference.stem(x)
    for stage in reference.stages:
        levels.append(x := stage(x))
    return levels


@pytest.mark.parametrize(
    "size", [(64, 96), (67, 93), (50, 38), (33, 1), (1, 1)], ids=str
)
def test_equals_timm(timm_and_ours, size):
    reference, model = timm_and_ours
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        levels, expected = model(x), timm_levels(reference, x)
    for level, wanted in zip(levels, expected, strict=True):
        assert_close(level, wanted)


@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_gradients_equal_those_of_timm(timm_and_ours, memory):
    reference, model = timm_and_ours
    model.set_memory(memory)
    x = torch.randn(2, 3, 45, 70)
    for levels in (timm_levels(reference, x), model(x)):
        sum((level**2).mean() for level in levels).backward()
    expected = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in reference.named_parameters()
    }
    model.set_memory("store")
    for name, wanted in convert_state_dict(expected).items():
        parameter = model.get_parameter(name)
        assert_close(parameter.grad, wanted)
        parameter.grad = None
    reference.zero_grad()


def test_full_size_equals_timm():
    torch.manual_seed(0)
    reference = NormFreeNet(_dm_nfnet_cfg(depths=(1, 2, 6, 3)), num_classes=0).eval()
    with torch.no_grad():
        for name, p in reference.named_parameters():
            if name.endswith("skipinit_gain"):
                p.uniform_(0.5, 1.5)
    model = NFNet("F0", flavour="timm").eval()
    model.load_state_dict(convert_state_dict(reference.state_dict()), strict=True)
    for size in (256, 193):
        x = torch.randn(1, 3, size, size)
        with torch.no_grad():
            levels, expected = model(x), timm_levels(reference, x)
        for level, wanted in zip(levels, expected, strict=True):
            assert_close(level, wanted)


def filled(case, **settings):
    arch = {key: case[key] for key in ("channels", "depths", "group_width")}
    model = NFNet(arch, drop_path_rate=0.25, **settings).eval()
    weights = {k: parameter(k, tuple(v.shape)) for k, v in model.state_dict().items()}
    if case["case"] == "floored":
        weights = {k: v * 0.01 if v.ndim == 4 else v for k, v in weights.items()}
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "case", GOLDEN["forward"], ids=lambda case: f"{case['case']}-{case['input'][2]}"
)
def test_reference_weights_give_reference_outputs(case, dtype):
    model = filled(case).to(dtype)
    with torch.no_grad():
        levels = model(image(tuple(case["input"])).to(dtype))
    for level, expected in zip(levels, case["levels"], strict=True):
        assert list(level.shape) == expected["shape"]
        flat = level.flatten()
        values = flat[[flat.numel() * i // 7 for i in range(7)]]
        scale = flat.abs().max().item()
        bound = scale * (1e-9 if dtype == torch.float64 else 1e-5)
        wanted = torch.tensor(expected["values"], dtype=dtype)
        torch.testing.assert_close(values, wanted, rtol=0, atol=bound)
        mean = flat.double().abs().mean().item()
        assert mean == pytest.approx(expected["mean_abs"], abs=bound)


def test_flavours_differ_as_described():
    case = GOLDEN["forward"][0]
    x = image(tuple(case["input"]))
    with torch.no_grad():
        one, other = (filled(case, flavour=f)(x)[-1] for f in ("deepmind", "timm"))
    difference = (one - other).abs().max() / one.abs().max()
    assert 1e-4 < difference < 2e-2


def rates_of(model):
    return [block.drop_path_rate for stage in model.stages for block in stage]


def test_drop_path_rates():
    deepmind = rates_of(small(drop_path_rate=0.25))
    assert deepmind == pytest.approx(GOLDEN["forward"][0]["drop_path_rates"])
    assert rates_of(small(drop_path_rate=0.25, flavour="timm")) == pytest.approx(
        [0, 0.05, 0.1, 0.15, 0.2, 0.25]
    )


@pytest.mark.parametrize(("flavour", "factor"), [("deepmind", 1), ("timm", 2)])
def test_stochastic_depth_drops_whole_samples(flavour, factor):
    """Kept branches are rescaled by 1 / (1 - rate) in timm's numerics alone."""
    block = small(flavour=flavour).stages[1][1].double()
    x = torch.randn(64, 24, 3, 3, dtype=torch.float64)
    branch = block.eval()(x) - x
    block.drop_path_rate = 0.5
    change = block.train()(x) - x
    kept = change.flatten(1).abs().sum(1) > 0
    assert 15 < kept.sum() < 49
    torch.testing.assert_close(change[kept], factor * branch[kept])
    assert torch.equal(block.eval()(x) - x, branch)


@pytest.mark.parametrize("flavour", ["deepmind", "timm"])
def test_variance_grows_by_alpha_squared_a_block(flavour):
    """Of every stage, on independent input of the variance that its blocks expect.

    Pixels come in equal fours, so that the pooling of the shortcuts changes nothing; on
    white noise it would quarter the variance, in the reference too. The averages are
    over 10^5 and more values of random kernels: 2 % is five standard deviations, and
    half of what a wrong count of blocks would make.
    """
    arch = {"channels": [64, 128, 128, 128], "depths": [2, 3, 6, 4], "group_width": 32}
    model = small(arch=arch, flavour=flavour).eval()
    width, variance = 32, 1.0
    for stage, depth in zip(model.stages, model.depths, strict=True):
        x = torch.randn(8, width, 32, 32) * variance**0.5
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        for index, block in enumerate(stage):
            x = block(x.detach())
            variance = 1 + 0.04 * (index + 1)
            assert x.var().item() == pytest.approx(variance, rel=0.02)
        width = x.shape[1]
        assert variance == 1 + 0.04 * depth


def test_starts_as_the_shortcuts():
    """Skip-init: without its branches a stage is its first block's shortcut."""
    model = small(skip_gain_init_value=0.0).eval()
    levels = model(torch.randn(1, 3, 40, 40))
    for stage, level in zip(model.stages[1:], levels, strict=False):
        block = stage[0]
        pooled = torch.nn.functional.avg_pool2d(
            block.act(level), 2, ceil_mode=True, count_include_pad=False
        )
        torch.testing.assert_close(stage(level), block.shortcut(pooled))


@pytest.mark.parametrize("flavour", ["deepmind", "timm"])
@pytest.mark.parametrize("autocast", [False, True])
def test_memory_modes_agree(flavour, autocast):
    pixels = torch.randn(2, 3, 61, 70)

    def gradients(memory):
        model = small(
            drop_path_rate=0.5, out_norm="layer_norm", memory=memory, flavour=flavour
        )
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            levels = model(pixels)
        sum((level.float() ** 2).mean() for level in levels).backward()
        return {name: p.grad for name, p in model.named_parameters()}

    expected = gradients("store")
    for name, grad in gradients("recompute").items():
        assert_close(grad, expected[name])


@pytest.mark.ci
@pytest.mark.slow
def test_recomputing_takes_less_memory():
    pixels = torch.randn(2, 3, 96, 96)

    def peak(memory):
        arch = {"channels": [64, 96, 96, 96], "depths": [3, 3, 4, 2]}
        model = small(arch={**arch, "group_width": 16}, memory=memory)

        def step():
            sum(level.mean() for level in model(pixels)).backward()

        step()  # leaves gradients behind, which do not count then
        return peak_memory(step)

    # What the stem keeps, and the inputs of the blocks; about 0.4 of all.
    assert peak("recompute") < 0.6 * peak("store")


def test_with_cp_is_recompute():
    assert small(with_cp=True).memory == ["recompute"] * 4


def test_evaluation_after_training_uses_the_trained_weights():
    """The kernels that evaluation keeps are forgotten in between."""
    model, pixels = small(), torch.randn(1, 3, 40, 40)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        with torch.no_grad():
            before = model.eval()(pixels)[-1]
        model.train()(pixels)[-1].sum().backward()
        optimizer.step()
        with torch.no_grad():
            after = model.eval()(pixels)[-1]
        fresh = NFNet(SMALL).eval()
        fresh.load_state_dict(model.state_dict())
        assert_close(after, fresh(pixels)[-1].detach())
        assert not torch.allclose(before, after)


@pytest.mark.parametrize("training", [False, True])
def test_maps_are_channels_last(training):
    """Every map, that no convolution has to reorder one."""
    model, seen = small().train(training), []
    for module in model.modules():
        if isinstance(module, WSConv2d):
            module.register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.set_grad_enabled(training):
        seen += model(torch.randn(1, 3, 64, 70))
    assert len(seen) > 30
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)


def test_initial_values():
    model = NFNet(SMALL)
    model.init_weights()
    block = model.stages[2][0]
    assert block.skip_gain == 0
    assert (block.conv2.gain == 1).all()
    assert not block.conv2.bias.any()
    assert not block.se.fc1.bias.any()
    weight = model.stages[3][0].conv1.weight
    assert weight.std().item() == pytest.approx(weight[0].numel() ** -0.5, rel=0.2)


def test_no_weight_decay_but_on_kernels():
    """Of the recipe: gains, biases and skip gains are what has one axis or none."""
    names = [name for name, p in small().named_parameters() if p.ndim <= 1]
    ends = ("gain", "bias")
    assert all(name.endswith(ends) for name in names)
    others = [name for name, p in small().named_parameters() if p.ndim > 1]
    assert all(name.endswith(".weight") for name in others)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "F8"}, "arch must be one of F0, .*, got 'F8'"),
        ({"arch": {"channels": [16] * 4}}, "has the keys channels, depths and, opt"),
        ({"arch": {**SMALL, "depths": [1, 1]}}, "depths must be 4 numbers >= 1"),
        ({"arch": {**SMALL, "depths": [1, 0, 1, 1]}}, "depths must be 4 numbers >= 1"),
        ({"arch": {**SMALL, "group_width": 16}}, r"least twice group_width \(16\)"),
        ({"flavour": "jax"}, "flavour must be deepmind or timm, got 'jax'"),
    ],
)
def test_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        NFNet(**{"arch": SMALL, **settings})
