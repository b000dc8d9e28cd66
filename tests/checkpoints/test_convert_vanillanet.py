"""VanillaNet and ReduceNet: every layout loads, and gives the reference's outputs."""

import hashlib

import pytest
import torch
from goldens.closed_form import image, load_golden, parameter
from goldens.vanillanet import vanillanet_shapes

from mmrev.checkpoints import (
    convert,
    convert_file,
    convert_state_dict,
    load_backbone,
    load_checkpoint_file,
    save_state_dict,
)
from mmrev.models.backbones.vanillanet import ARCHITECTURES
from mmrev.models.layers import FadedReLU, largest_fade
from mmrev.registry import MODELS

GOLDEN = load_golden("vanillanet")
SMALL = {"channels": [4, 4, 8, 16, 16, 32], "strides": [1, 2, 2, 1, 2]}


def vanillanet(**settings):
    return MODELS.build({"type": "mmrev.VanillaNet", "arch": SMALL, **settings})


def official(channels=SMALL["channels"], **settings):
    shapes = vanillanet_shapes(channels, **settings)
    weights = {name: parameter(name, shape) for name, shape in shapes.items()}
    norms = [
        name.removesuffix("running_var") for name in weights if "running_v" in name
    ]
    return weights | {f"{n}num_batches_tracked": torch.tensor(7) for n in norms}


def of_case(case):
    arch = {key: case[key] for key in ("channels", "strides")}
    settings = {"arch": arch, "act_num": case["act_num"]}
    model = vanillanet(**settings, deploy=case["form"] == "deploy").eval()
    weights = official(case["channels"], act_num=case["act_num"], form=case["form"])
    model.load_state_dict(convert_state_dict(weights), strict=True)
    return model


def check_levels(levels, case):
    for level, expected in zip(levels, case["levels"], strict=True):
        assert list(level.shape) == expected["shape"]
        flat = level.double().flatten()
        values = flat[[flat.numel() * i // 7 for i in range(7)]]
        bound = 1e-5 * flat.abs().max().item()
        wanted = torch.tensor(expected["values"]).double()
        torch.testing.assert_close(values, wanted, rtol=0, atol=bound)
        assert flat.abs().mean().item() == pytest.approx(expected["mean_abs"], 1e-5)


@pytest.mark.filterwarnings("ignore:VanillaNet is evaluated at fade 0.7")
@pytest.mark.parametrize(
    "case",
    GOLDEN["forward"],
    ids=lambda case: (
        f"{case['case']}-{case['form']}-{case['slope']}-{case['input'][3]}"
    ),
)
def test_reference_weights_give_reference_outputs(case):
    model = of_case(case)
    assert largest_fade(model) == 0  # the reference's weights count as faded
    for module in model.modules():
        if isinstance(module, FadedReLU):
            module.fade.fill_(1 - case["slope"])
    with torch.no_grad():
        check_levels(model(image(tuple(case["input"]))), case)
        if case["form"] == "training" and case["slope"] == 1:
            model.switch_to_deploy()
            check_levels(model(image(tuple(case["input"]))), case)


def digest(shapes):
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("form", ["training", "deploy"])
@pytest.mark.parametrize("size", ARCHITECTURES)
def test_every_key_of_every_official_size(size, form):
    settings = {"arch": size, "deploy": form == "deploy"}
    with torch.device("meta"):
        model = vanillanet(**settings)
        channels = ARCHITECTURES[size]["channels"]
        shapes = vanillanet_shapes(channels, form=form, num_classes=1000)
        weights = {k: torch.empty(s) for k, s in shapes.items()}
        for name in shapes:
            if name.endswith("running_var"):
                name = name.replace("running_var", "num_batches_tracked")
                weights[name] = torch.tensor(0)
    golden = GOLDEN["keys"][size][form]
    shapes = {k: tuple(v.shape) for k, v in weights.items()}
    assert (len(shapes), digest(shapes)) == (golden["keys"], golden["sha256"])
    result = convert({"model_ema": weights})
    assert result.layout.name == {"training": "vanillanet"}.get(
        form, "vanillanet-deploy"
    )
    assert all(key.startswith("cls") for key in result.dropped)
    result.compare(model.state_dict()).check()
    config = result.layout.backbone(result.state_dict)
    assert config["arch"] == ARCHITECTURES[size]
    assert config["deploy"] == settings["deploy"]


def test_averaged_weights_are_preferred():
    """The released accuracy is that of ``model_ema``."""
    averaged, last = official(), {k: v + 1 for k, v in official().items()}
    result = convert({"model": last, "model_ema": averaged, "epoch": 3})
    assert torch.equal(
        result.state_dict["stem.conv.0.weight"], averaged["stem1.0.weight"]
    )


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_official_detectors(prefix):
    weights = {prefix + k: v for k, v in official(act_num=4).items()}
    if prefix:
        weights[prefix.replace("backbone", "neck") + "x"] = torch.zeros(1)
    model = vanillanet(act_num=4)
    model.load_state_dict(convert_state_dict({"state_dict": weights}), strict=True)


@pytest.mark.parametrize("deploy", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        {"type": "mmrev.VanillaNet", "arch": SMALL, "act_num": 2},
        {
            "type": "mmrev.ReduceNet",
            "arch": {
                "channels": [8, 12, 16, 24],
                "depths": [2, 1, 1, 1],
                "expansion": 1,
            },
        },
    ],
    ids=lambda config: config["type"],
)
def test_own_layouts(tmp_path, config, deploy):
    config = {**config, "deploy": deploy, "out_norm": "layer_norm"}
    model = MODELS.build({**config, "out_indices": (1, 3)})
    save_state_dict(model.state_dict(), tmp_path / "own.pth")
    result = convert_file(tmp_path / "own.pth", tmp_path / "copy.pth").check()
    assert result.layout.name == config["type"]
    assert result.backbone["out_indices"] == [1, 3]
    assert config.items() <= result.backbone.items()
    copy = MODELS.build(result.backbone)
    load_backbone(copy, tmp_path / "copy.pth")
    for key, value in load_checkpoint_file(tmp_path / "own.pth")["state_dict"].items():
        assert torch.equal(copy.state_dict()[key], value)


def test_activation_free_is_read_off_the_training_form_only():
    arch = {"channels": [64] * 4, "depths": [1] * 4, "expansion": 2}
    config = {"type": "mmrev.ReduceNet", "arch": arch, "activation_free": True}
    result = convert(MODELS.build(config).state_dict())
    assert result.layout.backbone(result.state_dict)["activation_free"]
    config |= {"chain": "pre-pad", "deploy": True}
    result = convert(MODELS.build(config).state_dict())
    with pytest.raises(ValueError, match="got fused chains"):
        result.layout.backbone(result.state_dict)


def test_the_other_form_does_not_fit():
    weights = convert_state_dict(official())
    with pytest.raises(ValueError, match=r"does not fit.*missing.*unexpected"):
        convert(weights).compare(vanillanet(deploy=True).state_dict()).check()
