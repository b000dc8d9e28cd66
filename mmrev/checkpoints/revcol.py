"""Layouts of RevCol checkpoints.

Reference: megvii-research/RevCol @1680848: models/ (classification), Detection/ and
Segmentation/ (the same names under ``backbone.``), each also with the extra branch of
revcol_huge.py, ``up2``.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mmrev.checkpoints.layout import Layout

_AFFINE = r"(?:weight|bias)"
_STEM = rf"(stem\.[01]\.{_AFFINE})"
_FUSION = rf"([01]\.{_AFFINE})"
_BLOCK = rf"(blocks\.\d+\.(?:(?:dwconv|norm|pwconv1|pwconv2)\.{_AFFINE}|gamma))"
_LEVEL = r"subnet(\d+)\.level([0-3])"


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many modules of a numbered list have weights."""
    return len({match[0] for key in weights if (match := re.match(pattern, key))})


def _backbone(weights: Mapping[str, Tensor]) -> dict:
    """Read the architecture off the names and shapes."""
    arch = {
        "channels": [
            weights[f"columns.0.gains.{level}"].shape[1] for level in range(4)
        ],
        "depths": [
            _count(weights, rf"columns\.0\.levels\.{level}\.blocks\.\d+\.")
            for level in range(4)
        ],
        "num_columns": _count(weights, r"columns\.\d+\."),
        "top_to_bottom": "columns.1.levels.0.ups.1.0.weight" in weights,
    }
    config = {
        "type": "mmrev.RevCol",
        "arch": arch,
        "in_channels": weights["stem.0.weight"].shape[1],
        "kernel_size": weights["columns.0.levels.0.blocks.0.dwconv.weight"].shape[-1],
    }
    if norms := [level for level in range(4) if f"norms.{level}.weight" in weights]:
        config |= {"out_norm": "layer_norm", "out_indices": norms}
    return config


LAYOUTS = (
    Layout(
        name="revcol",
        marker=r"subnet0\.alpha0",
        renames=(
            (_STEM, r"\1"),
            (r"subnet(\d+)\.alpha([0-3])", r"columns.\1.gains.\2"),
            (rf"{_LEVEL}\.fusion\.down\.{_FUSION}", r"columns.\1.levels.\2.down.\3"),
            (
                rf"{_LEVEL}\.fusion\.up\.channel_reschedule\.{_FUSION}",
                r"columns.\1.levels.\2.ups.0.\3",
            ),
            (
                rf"{_LEVEL}\.fusion\.up2\.channel_reschedule\.{_FUSION}",
                r"columns.\1.levels.\2.ups.1.\3",
            ),
            (rf"{_LEVEL}\.{_BLOCK}", r"columns.\1.levels.\2.\3"),
        ),
        heads=("cls.", "cls_blocks.", "decoder_blocks."),
        backbone=_backbone,
    ),
    Layout(
        name="mmrev.RevCol",
        marker=r"columns\.0\.gains\.0",
        renames=((r"((?:stem|columns|norms)\..+)", r"\1"),),
        heads=(),
        backbone=_backbone,
    ),
)
