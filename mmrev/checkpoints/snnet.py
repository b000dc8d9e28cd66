"""Layouts of stitched checkpoints: SN-Net, SN-Netv2 and our own.

References: ziplab/SN-Net @c2dcf30 (stitching_deit, stitching_swin and
stitching_resnet_swin), ziplab/SN-Netv2 @dd17607 (classification and segmentation).

DeiT and DeiT III become ``mmpretrain.VisionTransformer``: the class token of DeiT III
has no position, here one of zeros; mmpretrain's own DeiT3 applies the first norm of a
block before the MLP, too. SN-Netv2's segmentors add a relative position bias, so that
their anchors become ``mmseg.MAE``, for images of one size. Swin and ResNet become
mmdet's. Its Swin shifts windows also where one window covers the map, as the fourth
stage's at 224 px, the reference does not: there features of that stage differ. Stitched
DeiTs pass their last norm here; the reference leaves it out but for anchors alone.

The updates of SN-Netv2's stitches are expected beside the weights, not merged into
them, which the reference does in eval mode; its training saves in train mode.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mmrev.checkpoints.layout import AFFINE, NORM, Layout, count

_ANCHOR = r"anchors\.(\d+)"
_HEADS = tuple(
    f"anchors.{anchor}.{head}." for anchor in range(3) for head in ("head", "fc")
)
# Blocks a stage, and whether they are bottlenecks, of the ResNets that were released.
_RESNETS = {((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), True): 50}


def _stitches(theirs: str, stage: int, front: int, end: int) -> tuple:
    """Renames of the stitches between two anchors in a stage.

    Args:
        theirs: pattern of their list.
        stage: ours.
        front: anchor that is left.
        end: anchor that is entered.
    """
    transform = rf"{theirs}\.(\d+)\.transform"
    ours = rf"stitches.stage{stage}_{front}to{end}.\1.0"
    return (
        (rf"{transform}\.{AFFINE}", rf"{ours}.\2"),
        (rf"{transform}\.lora_A", rf"{ours}.down"),
        (rf"{transform}\.lora_B", rf"{ours}.up"),
    )


_PATCHES = (
    rf"{_ANCHOR}\.patch_embed\.proj\.{AFFINE}",
    r"anchors.\1.patch_embed.projection.\2",
)
_VIT_BLOCK = rf"{_ANCHOR}\.blocks\.(\d+)"
_VIT = (
    (rf"{_ANCHOR}\.(cls_token|pos_embed)", r"anchors.\1.\2"),
    _PATCHES,
    (rf"{_ANCHOR}\.norm\.{AFFINE}", r"anchors.\1.ln1.\2"),
    (rf"{_VIT_BLOCK}\.norm([12])\.{AFFINE}", r"anchors.\1.layers.\2.ln\3.\4"),
    (
        rf"{_VIT_BLOCK}\.attn\.(qkv|proj)\.{AFFINE}",
        r"anchors.\1.layers.\2.attn.\3.\4",
    ),
    (rf"{_VIT_BLOCK}\.mlp\.fc1\.{AFFINE}", r"anchors.\1.layers.\2.ffn.layers.0.0.\3"),
    (rf"{_VIT_BLOCK}\.mlp\.fc2\.{AFFINE}", r"anchors.\1.layers.\2.ffn.layers.1.\3"),
    (rf"{_VIT_BLOCK}\.gamma_1", r"anchors.\1.layers.\2.attn.gamma1.weight"),
    (rf"{_VIT_BLOCK}\.gamma_2", r"anchors.\1.layers.\2.ffn.gamma2.weight"),
)
_SWIN_BLOCK = rf"{_ANCHOR}\.layers\.(\d)\.blocks\.(\d+)"
_SWIN_OURS = r"anchors.\1.stages.\2.blocks.\3"
_SWIN = (
    _PATCHES,
    (rf"{_ANCHOR}\.patch_embed\.norm\.{AFFINE}", r"anchors.\1.patch_embed.norm.\2"),
    (rf"{_ANCHOR}\.norm\.{AFFINE}", r"anchors.\1.norm3.\2"),
    (
        rf"{_ANCHOR}\.layers\.(\d)\.downsample\.(reduction\.weight|norm\.(?:weight|bias))",
        r"anchors.\1.stages.\2.downsample.\3",
    ),
    (rf"{_SWIN_BLOCK}\.norm([12])\.{AFFINE}", rf"{_SWIN_OURS}.norm\4.\5"),
    (
        rf"{_SWIN_BLOCK}\.attn\."
        r"((?:qkv|proj)\.(?:weight|bias)|relative_position_bias_table)",
        rf"{_SWIN_OURS}.attn.w_msa.\4",
    ),
    (rf"{_SWIN_BLOCK}\.mlp\.fc1\.{AFFINE}", rf"{_SWIN_OURS}.ffn.layers.0.0.\4"),
    (rf"{_SWIN_BLOCK}\.mlp\.fc2\.{AFFINE}", rf"{_SWIN_OURS}.ffn.layers.1.\4"),
)
_TABLES = (r".+\.(?:relative_position_index|attn_mask)",)
_COMPUTED = (r"route_table", r".+\.relative_position_index")


def _adapt_hierarchical(weights: dict[str, Tensor], _: Mapping[str, Tensor]) -> dict:
    """Reorder the inputs of merges; make convolutions of 1 x 1 linear.

    Merged patches are (column, row, C) there, (C, row, column) here.
    """
    adapted = dict(weights)
    for key, value in weights.items():
        if re.search(r"\.downsample\.(reduction|norm)\.(weight|bias)$", key):
            patches = value.unflatten(-1, (2, 2, -1))
            adapted[key] = patches.transpose(-1, -3).flatten(-3)
        elif key.startswith("stitches."):
            adapted[key] = value.flatten(1) if value.ndim > 2 else value
    return adapted


def _adapt_deit3(weights: dict[str, Tensor], _: Mapping[str, Tensor]) -> dict:
    """Give the class token a position, which changes nothing."""
    adapted = dict(weights)
    for key, value in weights.items():
        if key.endswith(".pos_embed"):
            adapted[key] = torch.cat([torch.zeros_like(value[:, :1]), value], dim=1)
    return adapted


def _refuse_levit(weights: dict[str, Tensor], _: Mapping[str, Tensor]) -> dict:
    raise ValueError(
        "Checkpoint: expected stitched DeiT, Swin or ResNet, got LeViT, which no "
        "toolbox has in a form that stitching can run."
    )


def _stitched(weights: Mapping[str, Tensor], anchor_of, **settings) -> dict:
    """The config of a stitched backbone, from that of each anchor."""
    anchors = [
        anchor_of(weights, f"anchors.{anchor}")
        for anchor in range(count(weights, "anchors"))
    ]
    return {"type": "mmrev.StitchedBackbone", "anchors": anchors, **settings}


def _shapes_of_vit(weights: Mapping[str, Tensor], name: str) -> dict:
    """What the shapes tell of a plain ViT, whose heads have 64 channels."""
    _, tokens, channels = weights[f"{name}.pos_embed"].shape
    patch_size = weights[f"{name}.patch_embed.projection.weight"].shape[-1]
    return {
        "embed_dims": channels,
        "num_layers": count(weights, f"{name}.layers"),
        "num_heads": channels // 64,
        "patch_size": patch_size,
        "img_size": patch_size * math.isqrt(tokens - 1),
    }


def _vit(weights: Mapping[str, Tensor], name: str) -> dict:
    shapes = _shapes_of_vit(weights, name)
    arch = {key: shapes.pop(key) for key in ("embed_dims", "num_layers", "num_heads")}
    arch["feedforward_channels"] = 4 * arch["embed_dims"]
    config = {"type": "mmpretrain.VisionTransformer", "arch": arch, **shapes}
    if f"{name}.layers.0.attn.gamma1.weight" in weights:
        config["layer_scale_init_value"] = 1.0
    return config | {"out_type": "featmap"}


def _mae(weights: Mapping[str, Tensor], name: str) -> dict:
    norm_cfg = {"type": "LN", "eps": 1e-6}
    return {
        "type": "mmseg.MAE",
        **_shapes_of_vit(weights, name),
        "init_values": 1.0,
        "norm_cfg": norm_cfg,
    }


def _swin(weights: Mapping[str, Tensor], name: str) -> dict:
    table = "{}.stages.{}.blocks.0.attn.w_msa.relative_position_bias_table"
    tables = [weights[table.format(name, stage)] for stage in range(4)]
    return {
        "type": "mmdet.SwinTransformer",
        "embed_dims": len(weights[f"{name}.patch_embed.projection.weight"]),
        "depths": [count(weights, f"{name}.stages.{s}.blocks") for s in range(4)],
        "num_heads": [table.shape[1] for table in tables],
        "window_size": (math.isqrt(len(tables[0])) + 1) // 2,
    }


def _resnet_or_swin(weights: Mapping[str, Tensor], name: str) -> dict:
    if f"{name}.conv1.weight" not in weights:
        return _swin(weights, name)
    depths = tuple(count(weights, f"{name}.layer{stage}") for stage in range(1, 5))
    bottleneck = f"{name}.layer1.0.conv3.weight" in weights
    if (depths, bottleneck) not in _RESNETS:
        raise ValueError(
            f"Checkpoint: expected a ResNet-18 or ResNet-50 as {name}, got one with "
            f"{depths} blocks. The file is incomplete, or no released one."
        )
    return {"type": "mmdet.ResNet", "depth": _RESNETS[depths, bottleneck]}


def _deit_backbone(weights: Mapping[str, Tensor]) -> dict:
    routes = {"stages": (0,)}
    return _stitched(weights, _vit, routes=routes, out_indices=(0,))


def _swin_backbone(weights: Mapping[str, Tensor]) -> dict:
    routes = {"stages": (0, 1, 2), "monotone": True}
    return _stitched(weights, _swin, routes=routes)


def _resnet_backbone(weights: Mapping[str, Tensor]) -> dict:
    routes = {"stages": (1, 2), "monotone": True}
    return _stitched(weights, _resnet_or_swin, routes=routes)


def _two_way_backbone(weights: Mapping[str, Tensor]) -> dict:
    settings = {"routes": {"stages": (0,), "two_way": True}, "out_indices": (0,)}
    down = weights.get("stitches.stage0_0to1.0.0.down")
    if down is not None:
        settings["rank"] = len(down)
    if "anchors.0.layers.0.gamma_1" in weights:
        return _stitched(weights, _mae, adapters="shared", **settings)
    return _stitched(weights, _vit, **settings)


def _own_backbone(_: Mapping[str, Tensor]) -> dict:
    raise ValueError(
        "Checkpoint: expected a layout to convert, got mmrev.StitchedBackbone's own. "
        "Load it as it is, into the anchors and routes that it was trained with."
    )


LAYOUTS = (
    Layout(
        name="snnet.deit",
        marker=r"anchors\.2\.blocks\.0\.norm1\.weight",
        renames=(
            *_VIT,
            *_stitches(r"stitch_layers\.0", 0, 0, 1),
            *_stitches(r"stitch_layers\.1", 0, 1, 2),
        ),
        heads=_HEADS,
        backbone=_deit_backbone,
        computed=_COMPUTED,
    ),
    Layout(
        name="snnet.swin",
        marker=r"anchors\.0\.layers\.0\.blocks\.0\.norm1\.weight",
        renames=(
            *_SWIN,
            *(
                rename
                for stage in range(3)
                for front in range(2)
                for rename in _stitches(
                    rf"stitch_layers\.{stage}\.{front}", stage, front, front + 1
                )
            ),
        ),
        heads=_HEADS,
        backbone=_swin_backbone,
        rebuilt=_TABLES,
        computed=_COMPUTED,
        adapt=_adapt_hierarchical,
    ),
    Layout(
        name="snnet.resnet",
        # All else is called as in our own.
        marker=r"anchors\.0\.fc\.weight",
        renames=(
            (rf"{_ANCHOR}\.(conv1\.weight|bn1\.{NORM})", r"anchors.\1.\2"),
            (
                rf"{_ANCHOR}\.(layer\d\.\d+\.(?:conv\d\.weight|bn\d\.{NORM}))",
                r"anchors.\1.\2",
            ),
            (
                rf"{_ANCHOR}\.(layer\d\.0\.downsample\.(?:0\.weight|1\.{NORM}))",
                r"anchors.\1.\2",
            ),
            *_SWIN,
            *_stitches(r"stitch_layers\.0\.0", 1, 0, 1),
            *_stitches(r"stitch_layers\.1\.0", 2, 0, 1),
        ),
        heads=_HEADS,
        backbone=_resnet_backbone,
        rebuilt=_TABLES,
        computed=_COMPUTED,
        adapt=_adapt_hierarchical,
    ),
    Layout(
        name="snnet.levit",
        marker=r"anchors\.0\.patch_embed\.0\.c\.weight",
        renames=(),
        heads=(),
        backbone=dict,
        adapt=_refuse_levit,
    ),
    Layout(
        name="snnetv2",
        # SN-Net has one stitch fewer for as many blocks.
        marker=r"stitch_layers\.0\.11\.transform\.weight",
        renames=(
            *_VIT,
            # The segmentors' names are those of mmseg.
            (rf"({_ANCHOR}\.(?:patch_embed\.projection|layers)\..+)", r"\1"),
            *_stitches(r"stitch_layers\.0", 0, 0, 1),
            *_stitches(r"stitch_layers\.1", 0, 1, 0),
        ),
        heads=_HEADS,
        backbone=_two_way_backbone,
        computed=_COMPUTED,
        adapt=_adapt_deit3,
    ),
    Layout(
        name="mmrev.StitchedBackbone",
        marker=r"route_table",
        renames=((r"((?:anchors|stitches|adapters|pyramid)\..+|route_table)", r"\1"),),
        heads=(),
        backbone=_own_backbone,
    ),
)
