"""Stitched backbones of every kind of anchor, against the anchors alone."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmrev.models.stitching import StitchedBackbone, anchor_of, register_anchor
from mmrev.models.stitching.anchors import StagedAnchor
from mmrev.registry import MODELS

HIERARCHICAL = dict(stages=(0, 1, 2), monotone=True)


def swin(place, dims, depth):
    heads = [1, 2, 4, 8]
    shared = dict(type=f"{place}.SwinTransformer", window_size=3, drop_path_rate=0.0)
    depths = [1, 2, depth, 1]
    if place == "mmpretrain":
        arch = dict(embed_dims=dims, depths=depths, num_heads=heads)
        return dict(**shared, arch=arch, out_indices=(0, 1, 2, 3), pad_small_map=True)
    return dict(**shared, embed_dims=dims, depths=depths, num_heads=heads)


def swin_v2(dims, depth):
    arch = dict(embed_dims=dims, depths=[1, 2, depth, 1], num_heads=[1, 2, 4, 8])
    return dict(
        type="mmrev.SwinTransformerV2",
        arch=arch,
        window_size=3,
        out_norm="layer_norm",
        memory="recompute",
    )


def resnet(place, depth):
    extra = {"out_indices": (0, 1, 2, 3)} if place == "mmpretrain" else {}
    return dict(type=f"{place}.ResNet", depth=depth, base_channels=8, **extra) | (
        {"stem_channels": 8}
    )


def vit(dims, **settings):
    return dict(
        type="mmpretrain.VisionTransformer",
        arch=dict(
            embed_dims=dims, num_layers=3, num_heads=2, feedforward_channels=2 * dims
        ),
        img_size=32,
        out_type="featmap",
        **settings,
    )


def revcol(width, columns):
    arch = dict(
        channels=[width * 2**i for i in range(4)],
        depths=[1, 1, 1, 1],
        num_columns=columns,
    )
    return dict(type="mmrev.RevCol", arch=arch, layer_scale_init_value=1.0)


def timm(name, **settings):
    return dict(type="mmpretrain.TIMMBackbone", model_name=name, **settings)


PYRAMID = dict(type="mmrev.SimpleFeaturePyramid", out_channels=8)
LITE = "tf_efficientnet_lite"
SETS = {
    "mmdet swin": dict(
        anchors=[swin("mmdet", 8, 2), swin("mmdet", 8, 4), swin("mmdet", 16, 4)],
        routes=HIERARCHICAL,
    ),
    "mmseg swin": dict(
        anchors=[swin("mmseg", 8, 2), swin("mmseg", 16, 4)], routes=HIERARCHICAL
    ),
    "mmpretrain swin": dict(
        anchors=[swin("mmpretrain", 8, 2), swin("mmpretrain", 16, 4)],
        routes=HIERARCHICAL,
    ),
    "swin v2": dict(
        anchors=[swin_v2(8, 2), swin_v2(16, 4), swin_v2(16, 4)], routes=HIERARCHICAL
    ),
    "convolutions of mmrev": dict(
        anchors=[
            dict(
                type="mmrev.ReduceNet",
                arch=dict(channels=[8, 8, 16, 24], depths=[1, 1, 2, 1], expansion=1),
            ),
            dict(
                type="mmrev.VanillaNet",
                arch=dict(
                    channels=[8, 8, 12, 16, 16, 24, 24], strides=[1, 2, 2, 1, 2, 1]
                ),
            ),
            dict(
                type="mmrev.NFNet",
                arch=dict(channels=[16] * 4, depths=[1, 1, 3, 1], group_width=8),
                out_norm="layer_norm",
            ),
        ],
        routes=dict(stages=(2,), monotone=True),
    ),
    "resnet": dict(
        anchors=[resnet("mmdet", 18), resnet("mmdet", 50)],
        routes=dict(stages=(1, 2), monotone=True),
    ),
    "resnet and swin": dict(
        anchors=[resnet("mmpretrain", 18), swin("mmdet", 16, 6)],
        routes=dict(stages=(1, 2), monotone=True),
    ),
    "vit": dict(
        anchors=[vit(8), vit(16), vit(24)], routes=dict(stages=(0,)), pyramid=PYRAMID
    ),
    "vit, two ways": dict(
        anchors=[vit(dims, layer_scale_init_value=0.5) for dims in (8, 16)],
        routes=dict(stages=(0,), two_way=True),
        pyramid=PYRAMID,
        rank=2,
    ),
    "revcol": dict(
        anchors=[revcol(4, 3), revcol(4, 4), revcol(8, 4)],
        routes=dict(stages=(0,), monotone=True),
    ),
    "efficientnet lite": dict(
        anchors=[timm(f"{LITE}{i}", features_only=True) for i in (0, 1)],
        routes=dict(stages=(1, 2, 3, 4), monotone=True),
    ),
    "timm resnet": dict(
        anchors=[timm("resnet18"), timm("resnet26")],
        routes=dict(stages=(1,), monotone=True),
    ),
}
SIZE = (67, 97)


def build(name, **settings):
    torch.manual_seed(0)
    model = StitchedBackbone(**copy.deepcopy(SETS[name]), **settings)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            continue
        # So that a norm that starts at 0 hides nothing.
        nn.init.normal_(parameter, 1.0 if parameter.ndim else 0.5, 0.1)
    model.eval()
    return model


@pytest.fixture(scope="module", params=SETS)
def stitched(request):
    return build(request.param)


@torch.no_grad()
def test_every_stitch_gives_the_same_four_maps(stitched):
    image = torch.randn(1, 3, *SIZE)
    expected = [
        (1, channels, -(-SIZE[0] // stride), -(-SIZE[1] // stride))
        for channels, stride in zip(stitched.channels, (4, 8, 16, 32), strict=True)
    ]
    outputs = []
    for stitch in range(len(stitched.routes)):
        stitched.set_stitch(stitch)
        levels = stitched(image)
        assert [tuple(level.shape) for level in levels] == expected
        assert all(level.isfinite().all() for level in levels)
        outputs.append(levels[-1])
    assert not any(map(torch.equal, outputs, outputs[1:]))


@torch.no_grad()
def test_an_anchor_alone_is_the_standalone_backbone(stitched):
    image = torch.randn(2, 3, 64, 96)
    bare = copy.deepcopy(stitched)
    bare.pyramid = None
    bare.out_indices = range(len(bare.runners[0].channels))
    none = nn.ModuleList([nn.Identity() for _ in bare.out_indices])
    bare.adapters = nn.ModuleList([none] * len(bare.runners))
    for index, anchor in enumerate(bare.anchors):
        alone = anchor(image)
        # Whole models of timm give the last level alone, features_only stride 2, too.
        indices = bare.out_indices[-len(alone) :]
        bare.set_stitch(index)
        levels = bare(image)
        for level, value in zip(indices, alone[-len(indices) :], strict=True):
            assert torch.equal(levels[level], value)
    if stitched.pyramid is None:
        stitched.set_stitch(len(bare.anchors) - 1)
        assert all(map(torch.equal, stitched(image), levels))


def test_parts_are_what_a_gradient_reaches(stitched):
    image = torch.randn(1, 3, 64, 64)
    for parameter in stitched.parameters():
        parameter.requires_grad_(True)
    names = {id(p): name for name, p in stitched.named_parameters()}
    found = []
    for stitch in range(len(stitched.routes)):
        stitched.set_stitch(stitch)
        stitched.zero_grad()
        sum(level.square().mean() for level in stitched(image)).backward()
        used = set()
        for part in stitched.parts(stitch):
            own = [part] if isinstance(part, nn.Parameter) else part.parameters()
            used.update(names[id(p)] for p in own)
        reached = {n for n, p in stitched.named_parameters() if p.grad is not None}
        found.append((used, reached))
    # Without what no route uses, as the gains of a first column of RevCol.
    ever = set().union(*(reached for _, reached in found))
    for used, reached in found:
        assert used & ever == reached


@torch.no_grad()
@pytest.mark.parametrize("adapters", ["separate", "shared"])
@pytest.mark.parametrize("name", SETS)
def test_a_stitch_runs_without_the_weights_of_others(name, adapters):
    whole, image = build(name, adapters=adapters), torch.randn(1, 3, *SIZE)
    for stitch in {0, len(whole.anchors), len(whole.routes) - 1}:
        alone = build(name, adapters=adapters, only=stitch)
        weights = whole.state_dict()
        alone.load_state_dict({key: weights[key] for key in alone.state_dict()})
        alone.train()
        alone.eval()
        whole.set_stitch(stitch)
        assert all(map(torch.equal, whole(image), alone(image)))
        used = sum(p.numel() for p in whole.parameters_of(stitch))
        assert sum(p.numel() for p in alone.parameters()) == used


@torch.no_grad()
def test_shared_adapters_are_the_stages_last_stitches():
    model, image = build("swin v2", adapters="shared"), torch.randn(1, 3, *SIZE)
    model.set_stitch(0)
    levels = model(image)
    small, *_, largest = model.runners
    state = small.stem(image)
    for stage in range(4):
        state = small.run(state, stage, 0, small.depths[stage])
        x = small.level(state, stage)
        if stage in (1, 2):
            x = x.permute(0, 2, 3, 1)
            for key in (f"stage{stage}_0to1", f"stage{stage}_1to2"):
                x = model.stitches[key][-1][0](x)
            x = largest.norm(stage)(x.permute(0, 3, 1, 2))
        else:
            # No route crosses in these stages: there is no stitch to share.
            x = small.norm(stage)(x)
            x = model.adapters[0][stage](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(levels[stage], x)
    kept = [type(adapter) for adapters in model.adapters for adapter in adapters]
    assert kept.count(nn.Identity) == len(kept) - 2


@pytest.mark.parametrize("only", [None, 2])
def test_pretrained_weights_of_the_whole(tmp_path, only):
    source = build("swin v2", only=only)
    path = tmp_path / "model.pth"
    weights = {f"backbone.{key}": v for key, v in source.state_dict().items()}
    torch.save({"state_dict": weights}, path)
    init_cfg = dict(type="Pretrained", checkpoint=str(path), prefix="backbone.")
    settings = copy.deepcopy(SETS["swin v2"])
    model = StitchedBackbone(**settings, only=only, init_cfg=init_cfg)
    model.init_weights()
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_state_dict_round_trip_and_other_routes():
    model = build("resnet")
    other = build("resnet")
    other.load_state_dict(model.state_dict())
    settings = SETS["resnet"] | {"routes": dict(stages=(1,), monotone=True)}
    fewer = StitchedBackbone(**copy.deepcopy(settings))
    with pytest.raises(ValueError, match="has 10 stitches, this model 5"):
        fewer.load_state_dict(model.state_dict(), strict=False)


def test_a_copy_runs_its_own_weights():
    model = build("swin v2")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    image = torch.randn(1, 3, 64, 64)
    assert not torch.equal(model(image)[0], twin(image)[0])


def test_layers_are_those_of_the_anchors():
    model = build("swin v2")
    small, largest = model.anchors[0], model.anchors[-1]
    name = "stages.2.1.mlp.fc1.weight"
    found = model.get_layer_depth(f"backbone.anchors.0.{name}", "backbone.")
    assert found == small.get_layer_depth(f"backbone.{name}", "backbone.")
    last = largest.get_layer_depth("head.weight", "backbone.")
    for name in ("head.weight", "backbone.stitches.stage0_0to1.0.0.weight"):
        assert model.get_layer_depth(name, "backbone.") == last
    assert model.no_weight_decay == largest.no_weight_decay
    with pytest.raises(ValueError, match=r"get_layer_depth, got ResNet.*=1\.0"):
        build("resnet").get_layer_depth("head.weight", "backbone.")


@pytest.mark.parametrize("stitch", [-1, 10, 71])
def test_an_id_out_of_range(stitch):
    model = build("resnet")
    with pytest.raises(ValueError, match=rf"must lie in 0\.\.9.*got {stitch}"):
        model.set_stitch(stitch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(anchors=[resnet("mmdet", 18)], routes=HIERARCHICAL), "two anchors"),
        (
            dict(anchors=[resnet("mmdet", 18), vit(8)], routes=HIERARCHICAL),
            "same levels",
        ),
        (
            dict(
                anchors=[vit(8, patch_size=8), vit(8)],
                routes=dict(stages=(0,)),
            ),
            r"same strides, got VisionTransformer \[8\], VisionTransformer \[16\]",
        ),
        (
            dict(
                anchors=[vit(8, with_cls_token=False), vit(8)],
                routes=dict(stages=(0,)),
            ),
            "same num_extra_tokens",
        ),
        (
            dict(anchors=[resnet("mmdet", 18)] * 2, routes=dict(stages=(0, 1))),
            r"before its first block.*monotone=True",
        ),
        (dict(SETS["vit"], adapters="none"), "'separate' or 'shared', got 'none'"),
        (dict(SETS["vit"], out_indices=(4,)), r"out_indices must lie in 0\.\.3"),
        (
            dict(SETS["resnet"], anchors=[dict(type="mmdet.SSDVGG", depth=11)] * 2),
            "does not know how to run .*SSDVGG.*register_anchor",
        ),
    ],
)
def test_anchors_that_cannot_be_stitched(settings, message):
    with pytest.raises(ValueError, match=message):
        StitchedBackbone(**copy.deepcopy(settings))


def test_a_forward_of_its_own_is_refused_until_registered():
    class Own(MODELS.get("mmrev.NFNet")):
        def forward(self, x):
            return super().forward(2 * x)

    with DefaultScope.overwrite_default_scope("mmrev"):
        backbone = Own(dict(channels=[16] * 4, depths=[1] * 4, group_width=8))
    with pytest.raises(ValueError, match="Own has a forward of its own"):
        anchor_of(backbone)
    register_anchor(f"{Own.__module__}.{Own.__qualname__}")(StagedAnchor)
    assert isinstance(anchor_of(backbone), StagedAnchor)
