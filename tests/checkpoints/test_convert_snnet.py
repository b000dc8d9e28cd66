"""SN-Net and SN-Netv2: every layout loads, and every stitch gives the reference's map.

The reference skips the last norm of a DeiT, but for the anchors alone; ours does not.
"""

import copy
import hashlib
from functools import cache

import pytest
import torch
from goldens import snnet
from goldens.closed_form import image, load_golden, parameter
from mmengine.runner import load_checkpoint
from mmpretrain.models.utils import resize_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mmrev.checkpoints import (
    LAYOUTS,
    convert,
    convert_file,
    convert_state_dict,
    load_backbone,
    load_checkpoint_file,
    unwrap_state_dict,
)
from mmrev.registry import MODELS

GOLDEN = load_golden("snnet")["cases"]
LAYOUT = {
    "deit": "snnet.deit",
    "swin": "snnet.swin",
    "resnet": "snnet.resnet",
    "resnet_swin": "snnet.resnet",
    "snnetv2": "snnetv2",
    "segmentation": "snnetv2",
}
TINY = {
    "deit": snnet.deit((64, 128, 192), 64),
    "swin": snnet.swin((12, 12, 16), 3, 192),
    "resnet": snnet.resnet(),
    "resnet_swin": snnet.resnet_swin(32, (1, 2, 4, 8), 2, 128),
    "snnetv2": snnet.snnetv2((64, 128), 64, 4),
    "segmentation": snnet.snnetv2((64, 128), 64, 4, "mae"),
}
RELEASED = {
    "deit": snnet.deit((192, 384, 768), 224, 1000),
    "swin": snnet.swin((96, 96, 128), 7, 224, 1000),
    "resnet": snnet.resnet(1000),
    "resnet_swin": snnet.resnet_swin(96, (3, 6, 12, 24), 7, 224, 1000),
    "snnetv2": snnet.snnetv2((384, 1024), 224, 64, classes=1000),
    "segmentation": snnet.snnetv2((384, 1024), 512, 16, "mae"),
}


@cache
def official(name):
    return {key: value_of(key, shape) for key, shape in TINY[name].items()}


def value_of(key, shape):
    if key.endswith(("num_batches_tracked", "relative_position_index")):
        return torch.zeros(shape, dtype=torch.long)
    # Around 0, so that a ReLU passes something.
    return parameter(key, shape) - float(key.endswith("running_mean"))


def digest(shapes):
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes.items())
    return {
        "keys": len(shapes),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    }


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """By family: the converted file, and the config of its model."""

    @cache
    def convert_once(name):
        folder = tmp_path_factory.mktemp(name)
        torch.save({"model": official(name)}, folder / "in.pth")
        result = convert_file(folder / "in.pth", folder / "out.pth").check()
        assert result.layout.name == LAYOUT[name]
        return folder / "out.pth", result.backbone

    return convert_once


def loaded(path, config):
    model = MODELS.build(copy.deepcopy(config))
    load_backbone(model, path)
    return model.eval()


def without_adapters(model):
    for levels in model.adapters:
        for index in range(len(levels)):
            levels[index] = nn.Identity()


@torch.no_grad()
@pytest.mark.parametrize(
    "count", [5, pytest.param(None, marks=pytest.mark.slow, id="all")]
)
@pytest.mark.parametrize("name", GOLDEN)
def test_stitches_give_the_references_features(name, count, converted):
    case = GOLDEN[name]
    assert digest(TINY[name]) == case["tiny"]
    model = loaded(*converted(name))
    assert len(model.routes) == len(case["stitches"])
    without_adapters(model)
    x = image((1, 3, case["side"], case["side"]))
    last = len(model.routes) - 1
    tried = range(last + 1) if count is None else [last * i // 4 for i in range(count)]
    for stitch in tried:
        place, mean_abs, *values = case["stitches"][stitch]
        if name == "deit":
            for anchor in model.anchors:
                anchor.final_norm = place == "norm"
        model.set_stitch(stitch)
        level = model(x)[-1]
        assert list(level.shape) == case["shapes"][model.routes[stitch].anchors[-1]]
        flat = level.double().flatten()
        found = flat[[flat.numel() * i // 5 for i in range(5)]]
        bound = 1e-5 * flat.abs().max().item()
        wanted = torch.tensor(values).double()
        torch.testing.assert_close(found, wanted, rtol=0, atol=bound)
        assert flat.abs().mean().item() == pytest.approx(mean_abs, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("side", [64, 96])
def test_deit3_is_a_vision_transformer_of_mmpretrain(side, converted):
    """As timm has it; positions are resized as mmpretrain does."""
    settings = {"embed_dim": 128, "depth": 24, "num_heads": 2, "num_classes": 0}
    timm = VisionTransformer(
        side, init_values=1.0, no_embed_class=True, global_pool="token", **settings
    ).eval()
    weights = {
        key.removeprefix("anchors.1.")
        .replace("gamma_1", "ls1.gamma")
        .replace("gamma_2", "ls2.gamma"): value
        for key, value in official("snnetv2").items()
        if key.startswith("anchors.1.") and "head" not in key
    }
    sizes = (4, 4), (side // 16, side // 16)
    weights["pos_embed"] = resize_pos_embed(weights["pos_embed"], *sizes, "bicubic", 0)
    timm.load_state_dict(weights)
    model = loaded(*converted("snnetv2"))
    model.set_stitch(1)
    x = image((1, 3, side, side))
    tokens = timm.forward_features(x)[:, 1:]
    level = model(x)[0]
    torch.testing.assert_close(
        level.flatten(2).mT, tokens, rtol=0, atol=1e-5 * tokens.abs().max().item()
    )


@pytest.mark.parametrize("name", GOLDEN)
def test_every_key_of_the_released_sizes(name):
    shapes = RELEASED[name]
    assert digest(shapes) == GOLDEN[name]["keys"]
    weights = {k: torch.empty(s, device="meta") for k, s in shapes.items()}
    result = convert({"state_dict": {f"module.{k}": v for k, v in weights.items()}})
    assert result.layout.name == LAYOUT[name]
    assert not result.unexpected
    leftover = ("head", "fc", "relative_position_index", "attn_mask")
    assert all(set(key.split(".")) & set(leftover) for key in result.dropped)
    config = result.layout.backbone(result.state_dict)
    assert config["anchors"] == [
        {"type": f"{place}.{kind}", **settings}
        for place, kind, settings in EXPECTED[name]
    ]
    assert config.get("rank") == {"snnetv2": 64, "segmentation": 16}.get(name)


def vit(channels, depth, **settings):
    heads = channels // 64
    arch = {"embed_dims": channels, "num_layers": depth, "num_heads": heads}
    arch["feedforward_channels"] = 4 * channels
    settings |= {"img_size": 224, "patch_size": 16, "out_type": "featmap"}
    return "mmpretrain", "VisionTransformer", {"arch": arch, **settings}


def mae(channels, depth):
    settings = {"embed_dims": channels, "num_layers": depth, "init_values": 1.0}
    settings |= {"num_heads": channels // 64, "norm_cfg": {"type": "LN", "eps": 1e-6}}
    return "mmseg", "MAE", settings | {"img_size": 512, "patch_size": 16}


def swin(dims, depth):
    depths, heads = [2, 2, depth, 2], [dims // 32 * 2**stage for stage in range(4)]
    settings = {"embed_dims": dims, "depths": depths, "num_heads": heads}
    return "mmdet", "SwinTransformer", settings | {"window_size": 7}


EXPECTED = {
    "deit": [vit(channels, 12) for channels in (192, 384, 768)],
    "swin": [swin(96, 6), swin(96, 18), swin(128, 18)],
    "resnet": [("mmdet", "ResNet", {"depth": depth}) for depth in (18, 50)],
    "resnet_swin": [("mmdet", "ResNet", {"depth": 18}), swin(96, 6)],
    "snnetv2": [
        vit(channels, depth, layer_scale_init_value=1.0)
        for channels, depth in ((384, 12), (1024, 24))
    ],
    "segmentation": [mae(384, 12), mae(1024, 24)],
}


def test_a_segmentor_is_converted_without_its_heads(tmp_path):
    weights = {f"backbone.{k}": v for k, v in official("segmentation").items()}
    heads = {"decode_head.conv_seg.weight": torch.zeros(1)}
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    torch.save({"state_dict": weights | heads}, source)
    result = convert_file(source, target).check()
    assert result.dropped == list(heads)
    model = MODELS.build(result.backbone)
    model.load_state_dict(unwrap_state_dict(load_checkpoint_file(target)), strict=True)
    with pytest.raises(ValueError, match=r"images of \(64, 64\), got \(64, 80\)"):
        model(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize(
    ("name", "settings", "kinds"),
    [
        (
            "snnetv2",
            {
                "pyramid": {"type": "mmrev.SimpleFeaturePyramid", "out_channels": 8},
                "out_indices": (0, 1, 2, 3),
            },
            {"adapters", "pyramid"},
        ),
        pytest.param(
            *("swin", {}, {"adapters", "anchors"}),
            marks=[pytest.mark.ci, pytest.mark.slow],
        ),
    ],
)
def test_what_dense_prediction_adds_keeps_its_values(name, settings, kinds, converted):
    """Adapters, level norms and pyramid; also by mmengine's way of loading."""
    path, config = converted(name)
    model = MODELS.build(copy.deepcopy({**config, **settings}))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load_backbone(model, path)
    file = unwrap_state_dict(load_checkpoint_file(path))
    kept = before.keys() - file.keys()
    assert {key.split(".")[0] for key in kept} == kinds
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in kept else file[key])
    for weight in model.parameters():
        weight.data.zero_()
    # As init_cfg=dict(type="Pretrained") does it.
    load_checkpoint(model, str(path))
    for key, value in file.items():
        assert torch.equal(model.state_dict()[key], value)


def test_other_routes_are_refused(tmp_path, converted):
    path, config = converted("swin")
    routes = {**config["routes"], "sharing": "aligned"}
    model = MODELS.build(copy.deepcopy({**config, "routes": routes}))
    with pytest.raises(ValueError, match="same number of others"):
        load_backbone(model, path)
    torch.save(official("swin"), tmp_path / "in.pth")
    with pytest.raises(ValueError, match=r"'snnet\.swin'.*convert_checkpoint\.py"):
        load_backbone(model, tmp_path / "in.pth")


def removed(*keys):
    return lambda weights: [weights.pop(key) for key in keys]


def added(key, *shape):
    return lambda weights: weights.update({key: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("deit", removed("anchors.1.blocks.3.norm1.bias"), "1 missing .*layers.3.ln1"),
        ("deit", removed("anchors.2.norm.weight"), r"1 missing \(anchors\.2\.ln1"),
        ("deit", removed("anchors.0.pos_embed"), "told without the key 'anchors.0.pos"),
        (
            "deit",
            removed(*(f"stitch_layers.0.10.transform.{x}" for x in ("weight", "bias"))),
            r"2 missing \(stitches\.stage0_0to1\.10\.0",
        ),
        (
            "swin",
            added("stitch_layers.2.0.6.transform.bias", 48),
            r"1 unexpected \(stitches\.stage2_0to1\.6\.0\.bias",
        ),
        ("swin", removed("anchors.0.norm.weight"), r"1 missing \(anchors\.0\.norm3"),
        (
            "swin",
            added("stitch_layers.3.0.0.transform.bias", 48),
            r"1 unexpected \(stitch_layers\.3",
        ),
        (
            "resnet_swin",
            added("anchors.0.layer3.2.conv1.weight", 1, 1, 1, 1),
            r"ResNet-18 or ResNet-50 as anchors\.0, got one with \(2, 2, 3, 2\)",
        ),
        (
            "snnetv2",
            removed("stitch_layers.1.4.transform.lora_A"),
            r"1 missing \(stitches\.stage0_1to0\.4\.0\.down",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_not_written(tmp_path, name, change, message):
    weights = dict(official(name))
    change(weights)
    torch.save(weights, tmp_path / "in.pth")
    with pytest.raises(ValueError, match=message):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth").check()
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]


def test_what_cannot_be_converted(tmp_path):
    with pytest.raises(ValueError, match="DeiT, Swin or ResNet, got LeViT"):
        convert({"anchors.0.patch_embed.0.c.weight": torch.zeros(1)})
    own = {"route_table": torch.zeros(0, 7)}
    with pytest.raises(ValueError, match=r"StitchedBackbone's own.*Load it"):
        LAYOUTS["mmrev.StitchedBackbone"].backbone(convert_state_dict(own))
    torch.save(official("deit"), tmp_path / "in.pth")
    with pytest.raises(ValueError, match="no architectures by name, got 'tiny'"):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth", arch="tiny")
