"""What every backbone gives, whatever its family: `mmrev.models.backbones.base`."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import test_nfnet
import test_reducenet
import test_revcol
import test_revcol_v2
import test_swin_transformer_v2
import test_vanillanet
import torch
from dispatched import Dispatched
from mmengine.model import PretrainedInit
from torch import nn

from mmrev.checkpoints import save_state_dict
from mmrev.models.backbones.base import Backbone
from mmrev.registry import MODELS
from mmrev.reversible import correction

SIZES = [(64, 96), (67, 93), (33, 1), (1, 1), (100, 36)]


@dataclass
class Family:
    """A family in its smallest form.

    Attributes:
        build: takes settings, gives a model whose branches count.
        type: name in the registry.
        arch: as `build` takes by default.
        channels: of the levels.
        variants: settings that change how a size is treated.
        memories: memory modes.
        frozen: prefixes of what two frozen stages freeze.
        drop_path: a rate for the test of frozen stages, if the family has any.
        norm_eval: whether there are statistics that it keeps.
        depths: layer by parameter name, as layer decay counts.
        layers: how many layers.
        stages: how many can be frozen.
    """

    build: Callable[..., Backbone]
    type: str
    arch: dict
    channels: Sequence[int]
    depths: dict[str, int]
    layers: int
    stages: int = 4
    variants: Sequence[dict] = ({},)
    memories: Sequence[str] = ("store", "recompute")
    frozen: Sequence[str] = ("stem.", "stages.0.", "stages.1.")
    drop_path: dict = field(default_factory=lambda: {"drop_path_rate": 0.5})
    norm_eval: bool = False


FAMILIES = {
    "revcol": Family(
        test_revcol.small,
        "mmrev.RevCol",
        test_revcol.SMALL,
        [8, 12, 16, 24],
        {
            "stem.0.weight": 0,
            "columns.0.levels.0.blocks.0.gamma": 1,
            "columns.2.levels.0.ups.0.0.weight": 3,
            "columns.0.levels.2.blocks.1.gamma": 4,
            "columns.3.levels.3.down.0.weight": 8,
            "columns.3.gains.0": 4,
            "columns.3.gains.3": 8,
        },
        10,
        variants=[{}, {"arch": {**test_revcol.SMALL, "top_to_bottom": True}}],
        memories=["store", "recompute", "reverse"],
        frozen=["stem.", "columns.0.", "columns.1."],
    ),
    "revcol-v2": Family(
        test_revcol_v2.small,
        "mmrev.RevColV2",
        test_revcol_v2.SMALL,
        [8, 12, 16, 24],
        {
            "stem.0.weight": 0,
            "bottom_up.0.levels.0.blocks.0.gamma": 1,
            "bottom_up.2.levels.3.down.0.weight": 6,
            "bottom_up.2.gains.3": 6,
            "top_down.0.levels.0.down.0.weight": 7,
            "top_down.0.gains.0": 7,
            "top_down.1.levels.1.ups.0.0.weight": 9,
            "top_down.2.levels.3.blocks.0.gamma": 12,
        },
        14,
        stages=6,
        memories=["store", "recompute", "reverse"],
        frozen=["stem.", "bottom_up.0.", "bottom_up.1."],
    ),
    "swin": Family(
        test_swin_transformer_v2.small,
        "mmrev.SwinTransformerV2",
        test_swin_transformer_v2.SMALL,
        [16, 32, 64, 128],
        {
            "stem.proj.weight": 0,
            "stages.0.0.attn.norm.weight": 1,
            "stages.0.1.mlp.layer.fc1.weight": 2,
            "stages.1.merge.reduction.weight": 2,
            "stages.1.0.attn.layer.attention.logit_scale": 3,
            "stages.3.merge.norm.weight": 7,
            "stages.3.1.attn.norm.weight": 9,
        },
        11,
        variants=[
            {"window_size": (5, 4, 3, 2), "small_maps": small_maps}
            for small_maps in ("shrink", "pad")
        ],
    ),
    "nfnet": Family(
        test_nfnet.small,
        "mmrev.NFNet",
        test_nfnet.SMALL,
        [16, 24, 32, 40],
        {
            "stem.0.weight": 0,
            "stages.0.0.skip_gain": 1,
            "stages.1.1.conv2.gain": 3,
            "stages.3.0.shortcut.weight": 6,
        },
        8,
    ),
    "vanillanet": Family(
        test_vanillanet.small,
        "mmrev.VanillaNet",
        test_vanillanet.SMALL,
        [8, 12, 16, 24],
        {
            "stem.conv.0.weight": 0,
            "stages.0.0.conv.0.weight": 1,
            "stages.2.1.act.conv.0.weight": 4,
            "stages.3.1.conv.4.bias": 6,
        },
        8,
        variants=[
            {"arch": arch, "deploy": deploy}
            for arch in (test_vanillanet.SMALL, test_vanillanet.WITHOUT_FIRST)
            for deploy in (False, True)
        ],
        drop_path={},
        norm_eval=True,
    ),
    "reducenet": Family(
        test_reducenet.small,
        "mmrev.ReduceNet",
        test_reducenet.SMALL,
        [8, 12, 16, 24],
        {
            "stem.body.0.weight": 0,
            "stages.0.1.body.0.weight": 2,
            "stages.3.0.body.4.bias": 7,
        },
        9,
        variants=[
            {},
            {"deploy": True},
            test_reducenet.CHAINED,
            {"deploy": True, **test_reducenet.FREE},
            {"deploy": True, **test_reducenet.CHAINED},
        ],
        drop_path={},
        norm_eval=True,
    ),
}

EVERY = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
VARIANTS = [
    pytest.param(family, settings, id=f"{name}-{index}")
    for name, family in FAMILIES.items()
    for index, settings in enumerate(family.variants)
]
MEMORIES = [
    pytest.param(family, memory, id=f"{name}-{memory}")
    for name, family in FAMILIES.items()
    for memory in family.memories
]


def buffers(model):
    return copy.deepcopy(dict(model.named_buffers()))


@pytest.mark.parametrize(("family", "settings"), VARIANTS)
def test_any_input_size(family, settings):
    model = family.build(**settings).eval()
    for size in SIZES:
        levels = model(torch.randn(2, 3, *size))
        for level, channels, stride in zip(
            levels, family.channels, (4, 8, 16, 32), strict=True
        ):
            sides = [-(-side // stride) for side in size]
            assert level.shape == (2, channels, *sides)
            assert level.isfinite().all()


@EVERY
def test_levels_are_those_of_the_embedding(family):
    model, image = family.build().eval(), torch.randn(2, 3, 32, 64)
    x = model.embed(image)
    assert x.shape[-1 if model.channels_last else 1] == model.embed_channels
    for level, other in zip(model.encode(x), model(image), strict=True):
        assert torch.equal(level, other)


@pytest.mark.parametrize(("family", "memory"), MEMORIES)
def test_frozen_stages(family, memory):
    model = family.build(frozen_stages=2, memory=memory, **family.drop_path).train()
    frozen = tuple(family.frozen)
    for prefix in frozen:
        assert not model.get_submodule(prefix[:-1]).training
    assert model.get_submodule(frozen[-1].replace("1.", "2")).training
    before = buffers(model)
    sum(level.mean() for level in model(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
        assert parameter.requires_grad != name.startswith(frozen), name
    for name, buffer in model.named_buffers():
        if name.startswith(frozen):
            assert torch.equal(buffer, before[name]), name
        elif "running_" in name:
            assert not torch.equal(buffer, before[name]), name


@pytest.mark.parametrize(("family", "memory"), MEMORIES)
def test_a_training_step_waits_for_no_gpu(family, memory, monkeypatch):
    """Nor does the first at a new size: plans of windows are made on the device."""
    monkeypatch.setattr(correction, "is_late", lambda device: True)  # as a GPU is
    model = family.build(memory=memory, **family.drop_path).train()
    with Dispatched() as dispatched:
        sum(level.mean() for level in model(torch.ones(2, 3, 61, 70))).backward()
    assert dispatched.counts["convolution_backward"]
    assert dispatched.waits() == 0


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, id=name)
        for name, family in FAMILIES.items()
        if family.norm_eval
    ],
)
def test_norm_eval_keeps_the_statistics(family):
    model = family.build(norm_eval=True).train()
    assert any("running_" in name for name, _ in model.named_buffers())
    before = buffers(model)
    model(torch.randn(2, 3, 64, 64))
    assert model.training
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


@EVERY
def test_out_indices_and_out_norm(family):
    model, image = family.build(out_indices=(3, 1)).eval(), torch.randn(1, 3, 64, 64)
    channels = [family.channels[3], family.channels[1]]
    assert [level.shape[1] for level in model(image)] == channels
    normed = family.build(out_indices=(3, 1), out_norm="layer_norm").eval()
    normed.load_state_dict(model.state_dict(), strict=False)
    for norm in normed.norms.values():
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
    for level in normed(image):
        torch.testing.assert_close(level.mean(1), torch.zeros_like(level.mean(1)))


@EVERY
def test_built_by_its_name_and_modes_return_self(family):
    model = MODELS.build({"type": family.type, "arch": family.arch})
    assert type(model) is type(family.build())
    assert model.eval() is model
    assert model.train() is model


@EVERY
def test_init_cfg_is_one_or_a_list(family, tmp_path):
    source, path = family.build(), tmp_path / "weights.pth"
    save_state_dict(source.state_dict(), path)
    file = {"type": "Pretrained", "checkpoint": str(path)}
    half = {"type": "Constant", "layer": "Conv2d", "val": 0.5}
    for init_cfg in (file, [file], [file, half], {**file, "type": PretrainedInit}):
        model = family.build(init_cfg=init_cfg)
        model.init_weights()
        weights = model.state_dict()
        for name, weight in source.state_dict().items():
            assert torch.equal(weights[name], weight), name
    for init_cfg in (half, [half]):
        model = family.build(init_cfg=init_cfg)
        model.init_weights()
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        assert convs and all((conv.weight == 0.5).all() for conv in convs)


@EVERY
def test_layer_depth(family):
    model = family.build()
    others = {"backbone.norms.0.weight": family.layers - 1}
    others["neck.conv.weight"] = family.layers - 1
    depths = {f"backbone.{name}": depth for name, depth in family.depths.items()}
    names = dict(model.named_parameters()).keys()
    for name, depth in (depths | others).items():
        assert name in others or name.removeprefix("backbone.") in names
        found = model.get_layer_depth(name, "backbone.")
        assert found == (depth, family.layers), name


@EVERY
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out_indices": (0, 4)}, r"out_indices must lie in 0..3, got 4"),
        ({"out_norm": "BN"}, "out_norm must be None or 'layer_norm', got 'BN'"),
        ({"memory": "none"}, "store, recompute, reverse, or 4 of them, .*got 'none'"),
    ],
)
def test_unknown_settings(family, settings, message):
    with pytest.raises(ValueError, match=message):
        family.build(**settings)


@EVERY
def test_more_frozen_stages_than_there_are(family):
    one_more = family.stages + 1
    message = rf"frozen_stages must lie in -1..{family.stages}, got {one_more}"
    with pytest.raises(ValueError, match=message):
        family.build(frozen_stages=one_more)
