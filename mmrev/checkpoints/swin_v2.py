"""Layouts of Swin-V2 checkpoints.

References: microsoft/Swin-Transformer @f82860b (models/swin_transformer_v2.py, and
models/simmim.py for masked-image pretraining, whose first files say ``rpe_mlp``); timm
1.0.31 (models/swin_transformer_v2.py); mmpretrain 1.3.6
(models/backbones/swin_transformer_v2.py).

The windows of the position bias, which no weight tells, are read off the coordinate
tables of a file, or off its name where it has none (timm): released files are called
after the window and the image side of their pretraining.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mmrev.checkpoints.layout import AFFINE, OWN, Layout, count, norms

WINDOWS = "pretrained_windows"
"""A buffer of our model, one number a stage; here 0 stands for what is not known."""

_ATTENTION = r"(logit_scale|q_bias|v_bias|qkv\.weight|proj\.(?:weight|bias))"
_CPB = r"(?:cpb|rpe)_mlp\.(0\.weight|0\.bias|2\.weight)"
_MERGE = r"(reduction\.weight|norm\.(?:weight|bias))"
_TABLES = (r".+\.(?:relative_coords_table|relative_position_index|attn_mask)",)
_COORDS = r"{}\.(\d)\.blocks\.0\.attn\.(?:w_msa\.)?relative_coords_table"
# Since the stages halve the map, and a window is never larger than its map.
_IN22K = [12, 12, 12, 6]


def _block(ours: str) -> str:
    return rf"stages.\1.\2.{ours}.\3"


def _renames(stages: str, attention: str, mlp: tuple[str, str]) -> tuple:
    """What all layouts but ours have in common.

    Args:
        stages: pattern of the list of stages.
        attention: pattern of the attention in a block.
        mlp: patterns of its linear layers.
    """
    block = rf"{stages}\.(\d+)\.blocks\.(\d+)"
    fc1, fc2 = mlp
    return (
        (rf"{block}\.{attention}\.{_ATTENTION}", _block("attn.layer.attention")),
        (rf"{block}\.{attention}\.{_CPB}", _block("attn.layer.attention.cpb_mlp")),
        (rf"{block}\.norm1\.{AFFINE}", _block("attn.norm")),
        (rf"{block}\.{fc1}\.{AFFINE}", _block("mlp.layer.fc1")),
        (rf"{block}\.{fc2}\.{AFFINE}", _block("mlp.layer.fc2")),
        (rf"{block}\.norm2\.{AFFINE}", _block("mlp.norm")),
    )


def _official(prefix: str) -> tuple:
    stages = rf"{prefix}layers"
    return (
        (rf"{prefix}patch_embed\.(proj|norm)\.{AFFINE}", r"stem.\1.\2"),
        *_renames(stages, "attn", (r"mlp\.fc1", r"mlp\.fc2")),
        # Merges at the end of a stage; ours are at the start of the next.
        *(
            (
                rf"{stages}\.{index}\.downsample\.{_MERGE}",
                rf"stages.{index + 1}.merge.\1",
            )
            for index in range(3)
        ),
        (rf"{prefix}norm\.{AFFINE}", r"norms.3.\1"),
    )


def _trained_window(table: Tensor) -> int:
    """The window whose largest offset became 8 in a table of coordinates."""
    offset = table.shape[1] // 2
    if not offset:
        return 0  # a window of one token has no other offset than 0
    largest = table.flatten(0, 2)[:, 0].max().double()
    return round(1 + 8 * offset / (2 ** (3 * largest) - 1).item())


def _adapt_from(stages: str):
    """An ``adapt`` that reads the windows off the tables, where there are any.

    Args:
        stages: pattern of the list of stages.
    """
    pattern = re.compile(_COORDS.format(stages))

    def adapt(weights: dict[str, Tensor], given: Mapping[str, Tensor]) -> dict:
        windows = {
            int(match[1]): _trained_window(table)
            for key, table in given.items()
            if (match := pattern.fullmatch(key))
        }
        if windows:
            known = torch.tensor([windows[stage] for stage in sorted(windows)])
            return {**weights, WINDOWS: known}
        return weights

    return adapt


def _adapt_mmpretrain(weights: dict[str, Tensor], given: Mapping[str, Tensor]) -> dict:
    """Permute the inputs of merges: there (C, row, column), here (column, row, C)."""
    adapted = _adapt_from("stages")(weights, given)
    for key, value in weights.items():
        if key.endswith(".merge.reduction.weight"):
            inputs = value.unflatten(1, (-1, 2, 2))
            adapted[key] = inputs.permute(0, 3, 2, 1).flatten(1)
    return adapted


def _from_name(name: str) -> dict[str, Tensor]:
    """The windows, from the name of a released file.

    Official and timm: ``window8_256``, ``window12to16_192to256``: window and pixels of
    the pretraining come first. mmpretrain: ``w16_3rdparty_in1k-256px``, or
    ``in21k-pre``, of which only the fine-tuning is told.
    """
    windows = [0] * 4
    if "in21k-pre_" in name:
        windows = _IN22K
    elif match := (
        re.match(r".*window(\d+)(?:to\d+)?_(\d+)", name)
        or re.match(r".*-w(\d+)_.*-(\d+)px", name)
    ):
        window, pixels = map(int, match.groups())
        windows = [min(window, pixels // (4 * 2**stage)) for stage in range(4)]
    return {WINDOWS: torch.tensor(windows)}


def _backbone(weights: Mapping[str, Tensor]) -> dict:
    """Read the architecture off the names and shapes."""
    scale = "stages.{}.0.attn.layer.attention.logit_scale"
    extra = [
        int(match[1]) + 1
        for key in weights
        if (match := re.fullmatch(r"stages\.\d\.(\d+)\.norm\.weight", key))
    ]
    channels, in_channels = weights["stem.proj.weight"].shape[:2]
    return {
        "type": "mmrev.SwinTransformerV2",
        "arch": {
            "embed_dims": channels,
            "depths": [count(weights, f"stages.{stage}") for stage in range(4)],
            "num_heads": [len(weights[scale.format(stage)]) for stage in range(4)],
            "extra_norm_every_n_blocks": min(extra, default=0),
        },
        "in_channels": in_channels,
        "pretrained_window_sizes": weights[WINDOWS].tolist(),
        **norms(weights),
    }


LAYOUTS = (
    Layout(
        name="swin_v2",
        marker=r"layers\.0\.downsample\.reduction\.weight",
        renames=_official(""),
        heads=("head.",),
        backbone=_backbone,
        rebuilt=_TABLES,
        adapt=_adapt_from("layers"),
        from_name=_from_name,
    ),
    Layout(
        name="swin_v2.simmim",
        marker=r"encoder\.layers\.0\.downsample\.reduction\.weight",
        renames=_official(r"encoder\."),
        heads=("decoder.", "encoder.mask_token"),
        backbone=_backbone,
        rebuilt=_TABLES,
        adapt=_adapt_from(r"encoder\.layers"),
        # All of its pretraining is at 192 px with window 12, too.
        from_name=lambda _: {WINDOWS: torch.tensor(_IN22K)},
    ),
    Layout(
        name="timm.swinv2",
        marker=r"layers\.3\.downsample\.reduction\.weight",
        renames=(
            (rf"patch_embed\.(proj|norm)\.{AFFINE}", r"stem.\1.\2"),
            *_renames("layers", "attn", (r"mlp\.fc1", r"mlp\.fc2")),
            (rf"layers\.(\d+)\.downsample\.{_MERGE}", r"stages.\1.merge.\2"),
            (rf"norm\.{AFFINE}", r"norms.3.\1"),
        ),
        heads=("head.",),
        backbone=_backbone,
        rebuilt=_TABLES,
        adapt=_adapt_from("layers"),
        from_name=_from_name,
    ),
    Layout(
        name="mmpretrain.SwinTransformerV2",
        marker=r"stages\.0\.blocks\.0\.attn\.w_msa\.logit_scale",
        renames=(
            (rf"patch_embed\.projection\.{AFFINE}", r"stem.proj.\1"),
            (rf"patch_embed\.norm\.{AFFINE}", r"stem.norm.\1"),
            *_renames(
                "stages", r"attn\.w_msa", (r"ffn\.layers\.0\.0", r"ffn\.layers\.1")
            ),
            (rf"stages\.(\d+)\.blocks\.(\d+)\.norm3\.{AFFINE}", _block("norm")),
            (rf"stages\.(\d+)\.downsample\.{_MERGE}", r"stages.\1.merge.\2"),
            (rf"norm([0-3])\.{AFFINE}", r"norms.\1.\2"),
        ),
        heads=("head.",),
        backbone=_backbone,
        rebuilt=_TABLES,
        adapt=_adapt_mmpretrain,
        from_name=_from_name,
    ),
    Layout(
        name="mmrev.SwinTransformerV2",
        marker=r"stages\.0\.0\.attn\.layer\.attention\.logit_scale",
        renames=(OWN, (WINDOWS, WINDOWS)),
        heads=(),
        backbone=_backbone,
    ),
)
