"""Masked backbones: equality with mmpretrain, gradients, weights, bad input."""

import pytest
import torch
from mmpretrain.structures import DataSample
from shrink import on_meta
from tolerances import assert_close
from torch import nn

from mmrev.checkpoints import convert_state_dict, load_backbone, save_state_dict
from mmrev.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmrev.models.pretraining import MaskedBackbone
from mmrev.models.pretraining.masked_backbone import fit_mask
from mmrev.registry import MODELS

SIDE = 64
NFNET = dict(channels=[16, 24, 32, 40], depths=[1, 1, 1, 1], group_width=8)
OURS = {
    "swin": dict(
        type="mmrev.SwinTransformerV2",
        arch=dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2]),
        window_size=4,
    ),
    "revcol": dict(
        type="mmrev.RevCol",
        arch=dict(channels=[8, 12, 16, 24], depths=[1, 1, 1, 1], num_columns=2),
    ),
    "nfnet": dict(type="mmrev.NFNet", arch=NFNET),
}
VIT = dict(
    type="mmpretrain.VisionTransformer",
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=SIDE,
    out_type="featmap",
)
SWIN = dict(
    arch=dict(embed_dims=16, depths=[2, 1, 1, 1], num_heads=[1, 2, 2, 4]),
    img_size=SIDE,
    pad_small_map=True,
    drop_path_rate=0.0,
)
LOSS = dict(type="mmpretrain.PixelReconstructionLoss", criterion="L1", channel=3)


def awake(config: dict, seed: int = 0) -> nn.Module:
    """Build; no parameter starts at 0, or what it scales would not count."""
    torch.manual_seed(seed)
    model = MODELS.build(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def masked(name: str, **settings) -> MaskedBackbone:
    backbone = VIT if name == "vit" else {**OURS[name], **settings}
    return awake(dict(type="mmrev.MaskedBackbone", backbone=backbone))


def images_and_mask(cells: int = 16):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    patches = torch.rand(2, 2, 2, generator=generator) < 0.5
    patches[:, 0, 0], patches[:, 1, 1] = True, False
    scale = cells // 2
    mask = patches.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return images, mask.long()


def over_pixels(mask):
    scale = SIDE // mask.shape[1]
    return mask.repeat_interleave(scale, 1).repeat_interleave(scale, 2)[:, None]


@pytest.mark.parametrize("name", [*OURS, "vit"])
def test_masked_pixels_are_not_seen_and_the_token_is(name):
    model = masked(name).eval()
    images, mask = images_and_mask()
    hidden = over_pixels(mask)
    if name == "nfnet":  # convolutions that overlap see a rim of 7 pixels
        hidden = 1 - nn.functional.max_pool2d(1.0 - hidden, 15, 1, 7)
    with torch.no_grad():
        seen = model(images, mask)
        others = model(images + 9 * hidden, mask)
        for one, other in zip(seen, others, strict=True):
            assert torch.equal(one, other)
        model.mask_token += 1
        assert not torch.equal(model(images, mask)[-1], seen[-1])
        plain = model.model(images)
        for whole in (None, torch.zeros_like(mask)):
            for one, other in zip(model(images, whole), plain, strict=True):
                assert torch.equal(one, other)
        assert not torch.equal(plain[-1], seen[-1])


@pytest.mark.parametrize("name", [*OURS, "vit"])
def test_coarser_and_finer_masks_are_the_same_mask(name):
    model = masked(name).eval()
    images, mask = images_and_mask()
    with torch.no_grad():
        expected = model(images, mask)[-1]
        for cells in (2, 4, 64):
            assert torch.equal(model(images, images_and_mask(cells)[1])[-1], expected)


@pytest.mark.parametrize(
    ("name", "settings", "modes"),
    [
        ("revcol", {}, ["recompute", "reverse"]),
        ("swin", {}, ["recompute"]),
        ("swin", {"coupling": "two-stream"}, ["recompute", "reverse"]),
        ("nfnet", {}, ["recompute"]),
        ("nfnet", {"coupling": "two-stream"}, ["recompute", "reverse"]),
    ],
)
def test_every_memory_mode_gives_the_same_gradients(name, settings, modes):
    arch = {
        "swin": dict(embed_dims=8, depths=[4, 1, 1, 1], num_heads=[1, 1, 2, 2]),
        "nfnet": dict(channels=[16] * 4, depths=[5, 1, 1, 1], group_width=8),
    }
    if settings:
        settings = {**settings, "arch": arch[name]}
    images, mask = images_and_mask()
    found = {}
    for mode in ("store", *modes):
        model = masked(name, memory=mode, **settings).train()
        sum(level.square().mean() for level in model(images, mask)).backward()
        found[mode] = {n: p.grad for n, p in model.named_parameters()}
        if mode == "reverse":
            assert "reverse" in model.model.memory
    assert found["store"]["mask_token"].any()
    for mode in modes:
        for key, gradient in found["store"].items():
            assert (gradient is None) == (found[mode][key] is None), key
            assert gradient is None or torch.equal(found[mode][key], gradient), key


def simmim(backbone: dict, head: str, channels: int) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type="mmpretrain.SimMIM",
            backbone=backbone,
            neck=dict(
                type="mmpretrain.SimMIMLinearDecoder",
                in_channels=channels,
                encoder_stride=32,
            ),
            head=dict(type=head, patch_size=4, loss=LOSS),
        )
    ).eval()


def loss_of(model: nn.Module) -> torch.Tensor:
    images, mask = images_and_mask()
    return model.loss(images, [DataSample().set_mask(one) for one in mask])["loss"]


def test_the_loss_is_mmpretrains():
    """Same weights, masks and images: the same bits of loss and gradients."""
    theirs = simmim(
        dict(type="mmpretrain.SimMIMSwinTransformer", **SWIN),
        "mmpretrain.SimMIMHead",
        128,
    )
    nn.init.normal_(theirs.backbone.mask_token)
    inner = dict(type="mmpretrain.SwinTransformer", **SWIN)
    backbone = dict(type="mmrev.MaskedBackbone", backbone=inner)
    ours = simmim(backbone, "mmrev.SimMIMHead", 128)
    assert ours.load_state_dict(theirs.state_dict())  # strictly
    losses = [loss_of(model) for model in (theirs, ours)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    grads = {n.replace("model.", ""): p.grad for n, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        assert torch.equal(grads[name], parameter.grad), name


def test_swin_v2_has_the_loss_of_mmpretrains_masked_alike():
    """mmpretrain masks Swin-V1 alone: its V2, with our token, against ours."""
    settings = dict(SWIN, type="mmpretrain.SwinTransformerV2", window_size=4)
    settings["arch"] = {**SWIN["arch"], "extra_norm_every_n_blocks": 0}
    theirs = simmim(
        dict(type="mmrev.MaskedBackbone", backbone=settings), "mmrev.SimMIMHead", 128
    )
    for value in theirs.parameters():
        nn.init.normal_(value, std=0.1)
    backbone = dict(
        type="mmrev.SwinTransformerV2",
        arch=SWIN["arch"],
        window_size=4,
        small_maps="pad",
        out_indices=(3,),
        out_norm="layer_norm",
    )
    ours = simmim(
        dict(type="mmrev.MaskedBackbone", backbone=backbone), "mmrev.SimMIMHead", 128
    )
    state = theirs.state_dict()
    converted = convert_state_dict(state)
    assert "mask_token" not in converted
    ours.backbone.model.load_state_dict(converted)
    ours.neck.load_state_dict(theirs.neck.state_dict())
    ours.backbone.mask_token.data = state["backbone.mask_token"]
    assert_close(loss_of(ours), loss_of(theirs))


@pytest.mark.parametrize("name", OURS)
def test_a_checkpoint_is_one_of_the_plain_backbone(name, tmp_path):
    pretrained, plain = masked(name), awake(OURS[name], seed=1)
    keys = set(pretrained.state_dict())
    assert keys == {*plain.state_dict(), "mask_token"}
    path = tmp_path / "simmim.pth"
    state = {f"backbone.{k}": v for k, v in pretrained.state_dict().items()}
    save_state_dict({**state, "neck.decoder.0.bias": torch.zeros(3)}, path)
    load_backbone(plain, path)
    for key, value in plain.named_parameters():
        assert torch.equal(value, state[f"backbone.{key}"]), key
    again = awake(dict(type="mmrev.MaskedBackbone", backbone=OURS[name]), seed=1)
    again.load_state_dict(pretrained.state_dict())
    assert torch.equal(again.mask_token, pretrained.mask_token)


def test_windows_go_over_to_dense_ones_and_wrong_ones_are_refused(tmp_path):
    """12 at 192 px, where stage 4 has 6 x 6 tokens, to 16 at any size."""
    arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    settings = dict(type="mmrev.SwinTransformerV2", arch=arch)
    pretrained = MaskedBackbone(dict(settings, window_size=(12, 12, 12, 6)))
    pretrained.init_weights()
    path = tmp_path / "simmim.pth"
    state = {f"backbone.{k}": v for k, v in pretrained.state_dict().items()}
    save_state_dict(state, path)
    dense = dict(settings, window_size=16, out_norm="layer_norm")
    dense["init_cfg"] = dict(type="Pretrained", checkpoint=str(path))
    model = MODELS.build(dict(dense, pretrained_window_sizes=(12, 12, 12, 6)))
    model.init_weights()
    assert torch.equal(model.stem.proj.weight, pretrained.model.stem.proj.weight)
    assert model(torch.randn(1, 3, 70, 50))[0].shape == (1, 8, 18, 13)
    with pytest.raises(ValueError, match=r"Set pretrained_window_sizes=\(12, 12"):
        MODELS.build(dense).init_weights()


def test_the_token_is_of_the_stem_and_has_no_weight_decay():
    model = nn.Module()
    model.backbone = masked("revcol")
    construct = LayerDecayOptimWrapperConstructor(
        dict(optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.5)),
        dict(decay_rate=0.5),
    )
    groups = construct(model).param_groups
    of = {id(p): group for group in groups for p in group["params"]}
    names = dict(model.named_parameters())
    token = of[id(names["backbone.mask_token"])]
    stem = of[id(names["backbone.model.stem.0.weight"])]
    assert token["weight_decay"] == 0 and stem["weight_decay"] == 0.5
    assert token["lr"] == stem["lr"] == min(group["lr"] for group in groups)
    assert of[id(names["backbone.model.columns.1.gains.0"])]["weight_decay"] == 0


def test_initial_weights():
    model = MaskedBackbone(OURS["nfnet"])
    model.init_weights()
    assert 0.01 < model.mask_token.std() < 0.04
    assert model.mask_token.shape == (1, 1, 8)  # the stem's, half of the first level's


CAN = "Use one of mmrev.SwinTransformerV2, mmrev.RevCol, .*NFNet, and transformers"


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        (dict(type="mmrev.VanillaNet"), "without BatchNorm.*got VanillaNet"),
        (dict(type="mmrev.ReduceNet"), "without BatchNorm.*got ReduceNet"),
        (dict(type="mmdet.ResNet", depth=18), "without BatchNorm.*got ResNet"),
        (
            dict(type="mmpretrain.ConvNeXt"),
            "map or tokens that a mask can be laid on.*got ConvNeXt",
        ),
        (
            dict(
                type="mmrev.StitchedBackbone",
                anchors=[
                    dict(OURS["nfnet"], arch=dict(NFNET, depths=[1, n, 1, 1]))
                    for n in (1, 2)
                ],
                routes=dict(stages=(1,)),
            ),
            "map or tokens that a mask can be laid on.*got StitchedBackbone",
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_backbone_that_cannot_mask(backbone, reason):
    with on_meta(), pytest.raises(ValueError, match=f"{reason}.*{CAN}"):
        MaskedBackbone(backbone)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((5, 16), "those of the stem's map, 16 x 16, got 5 x 16"),
        ((24, 24), "those of the stem's map, 16 x 16, got 24 x 24"),
    ],
)
def test_a_mask_of_other_sides(shape, reason):
    with pytest.raises(ValueError, match=f"{reason}. Give the mask generator"):
        fit_mask(torch.zeros(2, *shape), (16, 16))


def test_a_cell_that_is_masked_in_part():
    mask = torch.zeros(2, 16, 16)
    mask[0, 0, 0] = 1
    with pytest.raises(ValueError, match="whole cells of the stem's 4 x 4 map"):
        fit_mask(mask, (4, 4))
