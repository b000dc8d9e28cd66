"""Make a full-size config small enough for one step in a second on a CPU.

Only sizes change: number of columns, layers, queries, widths, points, image sides.
Types, losses, pipelines, optimizer constructor and settings stay the config's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from mmrev.leaderboard.tracks import FROZEN
from mmrev.models.backbones import revcol, swin_transformer_v2

CHANNELS = [16, 32, 64, 128]

# Anchors keep the proportions between them, so that stitches and adapters remain.
VIT_WIDTHS = {"deit-tiny": 8, "deit-small": 16, "deit-base": 24}


def _fewer_blocks(depths: list[int]) -> list[int]:
    return [min(depth, 2 + depth // 18) for depth in depths]


def _swin_v2_anchor(old: dict) -> dict:
    arch = swin_transformer_v2.ARCHITECTURES[old["arch"]]
    arch = dict(
        embed_dims=arch["embed_dims"] // 8,
        depths=_fewer_blocks(arch["depths"]),
        num_heads=arch["num_heads"],
    )
    return dict(old, arch=arch, drop_path_rate=0.0)


def _swin_v2(old: dict) -> dict:
    arch = dict(embed_dims=CHANNELS[0], depths=[2, 1, 2, 1], num_heads=[1, 1, 2, 2])
    new = dict(old, arch=arch, drop_path_rate=0.0)
    if "moe" in old:  # few tokens, of which each expert has to get some
        new["moe"] = dict(old["moe"], num_experts=2)
    return new


def _revcol_anchor(old: dict) -> dict:
    arch = revcol.ARCHITECTURES[old["arch"]]
    arch = dict(
        channels=[width // 4 for width in arch["channels"]],
        depths=[1, 1, 1, 1],
        num_columns=arch["num_columns"] // 4,
    )
    return dict(old, arch=arch, drop_path_rate=0.0)


def _vit_anchor(old: dict) -> dict:
    width = VIT_WIDTHS[old["arch"]]
    arch = dict(
        embed_dims=width, num_layers=3, num_heads=2, feedforward_channels=2 * width
    )
    return dict(old, arch=arch, img_size=64, drop_path_rate=0.0)


ANCHORS = {
    "mmdet.SwinTransformer": lambda old: dict(
        old,
        embed_dims=old["embed_dims"] // 8,
        depths=_fewer_blocks(old["depths"]),
        drop_path_rate=0.0,
    ),
    "mmrev.SwinTransformerV2": _swin_v2_anchor,
    "mmdet.ResNet": lambda old: dict(old, base_channels=4, stem_channels=4),
    "mmpretrain.VisionTransformer": _vit_anchor,
    "mmrev.RevCol": _revcol_anchor,
    "mmpretrain.TIMMBackbone": dict,  # by name, so at full size: 3 to 5 M parameters
}
"""For each type of an anchor in a stitched backbone: its small form."""


def _stitched(old: dict) -> dict:
    anchors = [ANCHORS[anchor["type"]](anchor) for anchor in old["anchors"]]
    new = dict(old, anchors=[dict(anchor, init_cfg=None) for anchor in anchors])
    if old.get("pyramid"):
        new["pyramid"] = dict(old["pyramid"], out_channels=CHANNELS[0])
    return new


BACKBONES = {
    "mmrev.RevCol": lambda old: dict(
        old,
        arch=dict(
            channels=CHANNELS,
            depths=[1, 1, 1, 1],
            num_columns=4,
            top_to_bottom=old["arch"] == "huge",
        ),
        drop_path_rate=0.0,
    ),
    "mmrev.RevColV2": lambda old: dict(
        old,
        arch=dict(channels=CHANNELS, depths=[1, 1, 1, 1], num_columns=2),
        drop_path_rate=0.0,
    ),
    "mmrev.NFNet": lambda old: dict(
        old,
        # Of coupled blocks, one stage that can be inverted.
        arch=dict(
            channels=CHANNELS,
            depths=[1, 1, 4 if old.get("coupling") else 1, 1],
            group_width=8,
        ),
        drop_path_rate=0.0,
        skip_gain_init_value=1.0,
    ),
    "mmrev.SwinTransformerV2": _swin_v2,
    "mmrev.VanillaNet": lambda old: dict(
        old, arch=dict(channels=[16, *CHANNELS], strides=[1, 2, 2, 2])
    ),
    "mmrev.ReduceNet": lambda old: dict(
        old,
        arch=dict(channels=CHANNELS, depths=[1, 1, 1, 1], expansion=2),
        drop_path_rate=0.0,
    ),
    "mmrev.StitchedBackbone": _stitched,
    # Its one level has the width of the last of others.
    "mmpretrain.BEiTViT": lambda old: dict(
        old,
        arch=dict(
            embed_dims=CHANNELS[-1], num_layers=2, num_heads=2, feedforward_channels=64
        ),
        img_size=64,
        drop_path_rate=0.0,
    ),
}
"""For each backbone type of the suite: its smallest form; CHANNELS, unless stitched."""

MODEL_SIZES = dict(
    num_queries=20,
    num_dn_queries=5,
    num_layers=1,
    feedforward_channels=64,
    fc_out_channels=32,
    conv_out_channels=32,
    nms_pre=64,
    max_per_img=16,
)
IMAGE_SIDES = dict(
    scale=64, crop_size=(64, 64), size=(64, 64), stride=(48, 48), input_size=64
)
LOADER = dict(num_workers=0, persistent_workers=False)


def shrink(cfg: Config) -> Config:
    """Return a small copy of ``cfg`` that needs neither weights nor a GPU."""
    cfg = Config(cfg.to_dict())
    for split in ("train", "val", "test"):
        if loader := cfg.get(f"{split}_dataloader"):
            loader.update(LOADER)
            _replace(loader, IMAGE_SIDES)
    for amp_only in ("loss_scale", "dtype", "use_fp16"):
        cfg.optim_wrapper.pop(amp_only, None)
    wrapper = cfg.optim_wrapper.get("type", "OptimWrapper")
    for precision in ("Amp", "BFloat16"):
        wrapper = wrapper.replace(f"{precision}Optim", "Optim")
    cfg.optim_wrapper.type = wrapper
    _replace(cfg.model, MODEL_SIZES)

    model = inner_model(cfg.model)
    _replace(model.get("data_preprocessor") or {}, IMAGE_SIDES)
    _replace(model.get("test_cfg") or {}, IMAGE_SIDES)
    # One that is masked is inside of what masks it.
    owner = model.backbone if "backbone" in model.backbone else model
    owner.backbone = small_backbone(owner.backbone)
    owner.backbone.init_cfg = None
    channels = _channels(owner.backbone)
    kept = [channels[i] for i in owner.backbone.get("out_indices", range(4))]
    for part in ("neck", "decode_head", "panoptic_head"):
        if "in_channels" in (model.get(part) or {}):
            single = isinstance(model[part].in_channels, int)
            model[part].in_channels = kept[-1] if single else kept
    if "auxiliary_head" in model:
        model.auxiliary_head.in_channels = kept[model.auxiliary_head.in_index]
    if model.type == "ImageClassifier":
        neck = model.get("neck") or {}
        doubles = neck.get("type") == "mmrev.NFNetPooling"
        own = kept[-1] * (2 if doubles else 1)
        model.head.in_channels = neck.get("out_channels", own)
    _shrink_teacher(cfg.model, kept)
    for owner in (model, model.get("decode_head", {})):  # mmdet's and mmseg's place
        if "num_points" in (owner.get("train_cfg") or {}):
            owner.train_cfg.num_points = 64
    return cfg


def small_backbone(backbone: ConfigDict) -> dict:
    """Its smallest form; frozen if it was."""
    if backbone.type != FROZEN:
        return BACKBONES[backbone.type](backbone)
    plain = dict(backbone, type=backbone.of)
    del plain["of"]
    return dict(small_backbone(ConfigDict(plain)), type=FROZEN, of=backbone.of)


def _shrink_teacher(model: ConfigDict, channels: list[int]) -> None:
    """The teacher of a distillation, if the model is one; it gives noise.

    Args:
        model: changed.
        channels: of what the student's backbone returns.
    """
    if model.type == "mmrev.FeatureDistillation":
        model.teacher = BACKBONES[model.teacher.type](model.teacher)
        model.teacher["init_cfg"] = None
        model.in_channels = [channels[level] for level in model.get("levels", [-1])]
        model.out_channels = [CHANNELS[level] for level in model.teacher["out_indices"]]
    elif model.type == "mmrev.ClassDistillation":
        model.teacher.update(model_name="regnety_002", init_cfg=None)


def _channels(backbone: ConfigDict) -> list[int]:
    """Of the levels of a small backbone."""
    if "anchors" not in backbone:
        return CHANNELS
    with on_meta():
        return MODELS.build(backbone).channels


@contextmanager
def on_meta() -> Iterator[None]:
    """Build models of any size, without memory."""
    linspace = torch.linspace
    # mmdet's Swin reads its drop path rates off a tensor.
    torch.linspace = partial(linspace, device="cpu")
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.linspace = linspace


def inner_model(model: ConfigDict) -> ConfigDict:
    """The model that owns the backbone: ``model``, or what a wrapper in it wraps."""
    return model if "backbone" in model else inner_model(model.model)


def _replace(node, sizes: dict) -> None:
    """Set the keys of ``sizes`` wherever they occur below ``node``."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in sizes and value is not None:
                # A resize to (long, short) keeps its form; one to a side keeps its.
                pair = key == "scale" and not isinstance(value, int)
                node[key] = (128, 64) if pair else sizes[key]
            elif key == "scales" and sizes is IMAGE_SIDES:
                pair = not isinstance(value[0], int)
                node[key] = [(128, 64), (128, 80)] if pair else [64, 80]
            else:
                _replace(value, sizes)
    elif isinstance(node, list | tuple):
        for value in node:
            _replace(value, sizes)
