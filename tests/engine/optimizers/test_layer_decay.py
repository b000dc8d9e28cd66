import hashlib

import pytest
import torch
from goldens.closed_form import load_golden
from mmengine.model import BaseModel
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmrev.registry import MODELS

GOLDEN = load_golden("revcol")["layer_ids"]
SMALL = {"channels": [4, 8, 16, 32], "depths": [1, 2, 2, 1], "num_columns": 3}


class Toy(BaseModel):
    """The shape of any OpenMMLab model: a backbone and something behind it."""

    def __init__(self, **settings):
        super().__init__()
        self.backbone = MODELS.build(
            {"type": "mmrev.RevCol", "arch": SMALL, **settings}
        )
        self.head = nn.Linear(32, 5)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return self.head(self.backbone(inputs)[-1].mean((2, 3)))


class Wrapped(BaseModel):
    def __init__(self):
        super().__init__()
        self.model = Toy()
        self.extra = nn.Linear(3, 3)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return self.model(inputs, data_samples, mode)


def build(model, lr=1e-3, weight_decay=0.05, **paramwise):
    optimizer = {"type": "AdamW"}
    optimizer |= {} if lr is None else {"lr": lr}
    optimizer |= {} if weight_decay is None else {"weight_decay": weight_decay}
    config = {
        "type": "mmrev.LayerDecayOptimWrapperConstructor",
        "optim_wrapper_cfg": {"type": "OptimWrapper", "optimizer": optimizer},
        "paramwise_cfg": {"decay_rate": 0.9, **paramwise},
    }
    return OPTIM_WRAPPER_CONSTRUCTORS.build(config)(model)


def settings(model, wrapper):
    """(lr, weight decay) of every parameter that is optimized, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }


def expected_id(name, depths):
    """Block index in the column + column index + 1, by the paper's Manhattan rule."""
    _, column, kind, level, *rest = name.split(".")
    if kind == "gains":
        return sum(depths[: int(level)]) + int(column) + 1
    block = int(rest[1]) if rest[0] == "blocks" else 0
    return sum(depths[: int(level)]) + block + int(column) + 1


@pytest.mark.parametrize("size", GOLDEN)
def test_ids_of_every_size(size):
    with torch.device("meta"):
        backbone = MODELS.build({"type": "mmrev.RevCol", "arch": size})
    golden, depths = GOLDEN[size], backbone.depths
    num_layers = sum(depths) + backbone.num_columns + 1
    assert num_layers == golden["num_layers"]
    lines = []
    for name, _ in backbone.named_parameters():
        layer, count = backbone.get_layer_depth(f"backbone.{name}", "backbone.")
        assert count == num_layers
        if name.startswith("stem."):
            assert layer == 0
            lines.append(f"{name} {layer}")
            continue
        assert layer == expected_id(name, depths)
        _, column, kind, level, *rest = name.split(".")
        row = sum(depths[: int(level)])
        if kind == "levels" and rest[0] == "blocks":
            row += int(rest[1])
        assert layer == golden["table"][row][int(column)]
        if kind == "levels":
            lines.append(f"{official(name)} {layer}")
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    assert digest == golden["sha256_without_alphas"]
    outside = backbone.get_layer_depth("neck.conv.weight", "backbone.")
    assert outside == (num_layers - 1, num_layers)


def official(name):
    """The reference's name of one of our level parameters."""
    _, column, _, level, *rest = name.split(".")
    part = ".".join(rest)
    part = part.replace("ups.0.", "fusion.up.channel_reschedule.")
    part = part.replace("ups.1.", "fusion.up2.channel_reschedule.")
    part = part.replace("down.", "fusion.down.")
    return f"subnet{column}.level{level}.{part}"


def test_every_parameter_gets_its_rate():
    model = Toy()
    found = settings(model, build(model))
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name.startswith("backbone.columns.0.gains.")
            assert name not in found
            continue
        layer, count = 10, 10
        if name.startswith("backbone."):
            own = name.removeprefix("backbone.")
            layer = 1 if own.startswith("stem.") else 1 + expected_id(own, [1, 2, 2, 1])
        decays = parameter.ndim > 1 and ".gains." not in name
        lr, weight_decay = found.pop(name)
        assert lr == pytest.approx(1e-3 * 0.9 ** (count - layer)), name
        assert weight_decay == (0.05 if decays else 0.0), name
    assert not found


def test_groups_are_one_a_layer_and_decay():
    groups = build(Toy()).optimizer.param_groups
    keys = [(group["layer"], group["weight_decay"]) for group in groups]
    assert len(set(keys)) == len(keys) <= 2 * 10
    assert [group["layer"] for group in groups] == sorted(g["layer"] for g in groups)


def test_inside_a_wrapper_model():
    plain, wrapped = Toy(), Wrapped()
    expected = settings(plain, build(plain))
    found = settings(wrapped, build(wrapped))
    assert found.pop("extra.weight") == (1e-3, 0.05)
    assert found.pop("extra.bias") == (1e-3, 0.0)
    assert {name.removeprefix("model."): v for name, v in found.items()} == expected


def test_frozen_and_shared_parameters():
    model = Toy(frozen_stages=1)
    model.tied = nn.Linear(32, 5)
    model.tied.weight = model.head.weight
    wrapper = build(model)
    found = settings(model, wrapper)
    assert not [name for name in found if name.startswith(("backbone.stem", "tied.w"))]
    assert not [name for name in found if name.startswith("backbone.columns.0.")]
    counted = sum(len(group["params"]) for group in wrapper.optimizer.param_groups)
    assert counted == len(found)


def test_custom_keys():
    keys = {
        "head": {"lr_mult": 10.0},
        "head.weight": {"lr_mult": 2.0, "decay_mult": 0.0},
        "stem": {"decay_mult": 2.0},
    }
    model = Toy()
    found = settings(model, build(model, custom_keys=keys))
    assert found["head.bias"] == (pytest.approx(1e-2), 0.0)
    assert found["head.weight"] == (pytest.approx(2e-3), 0.0)
    assert found["backbone.stem.1.bias"] == (pytest.approx(1e-3 * 0.9**9), 0.1)


def test_optimizer_without_weight_decay_of_its_own():
    groups = build(Toy(), weight_decay=None).optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01}


def test_rate_one_is_plain_training():
    groups = build(Toy(), decay_rate=1.0).optimizer.param_groups
    assert {group["lr"] for group in groups} == {1e-3}


@pytest.mark.parametrize("rate", [None, 0, -0.1, 1.1, "0.9"])
def test_wrong_rate(rate):
    with pytest.raises(ValueError, match=r"must set decay_rate in \(0, 1\], got"):
        build(Toy(), decay_rate=rate)


def test_other_mistakes():
    with pytest.raises(ValueError, match=r"takes decay_rate and .*got num_layers"):
        build(Toy(), num_layers=12)
    with pytest.raises(ValueError, match=r"optimizer must set lr"):
        build(Toy(), lr=None)
    model = Toy()
    model.backbone = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match=r"get_layer_depth, got Toy.*backbone Conv2d"):
        build(model)
    with pytest.raises(ValueError, match=r"got Linear with no backbone"):
        build(nn.Linear(2, 2))


def test_rate_one_needs_no_layers():
    linear = nn.Linear(2, 2)
    found = settings(linear, build(linear, decay_rate=1.0))
    assert found == {"weight": (1e-3, 0.05), "bias": (1e-3, 0.0)}
    model = Toy()
    model.backbone = nn.Conv2d(3, 3, 1)
    assert "backbone.weight" in settings(model, build(model, decay_rate=1.0))
