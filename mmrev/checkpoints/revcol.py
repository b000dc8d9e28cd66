"""Layouts of RevCol checkpoints.

Reference: megvii-research/RevCol @1680848: models/ (classification), Detection/ and
Segmentation/ (the same names under ``backbone.``), each also with the extra branch of
revcol_huge.py, ``up2``. Of RevColV2 there are this repository's checkpoints alone.
"""

from collections.abc import Mapping

from torch import Tensor

from mmrev.checkpoints.layout import OWN, Layout, count, norms

_AFFINE = r"(?:weight|bias)"
_STEM = rf"(stem\.[01]\.{_AFFINE})"
_FUSION = rf"([01]\.{_AFFINE})"
_BLOCK = rf"(blocks\.\d+\.(?:(?:dwconv|norm|pwconv1|pwconv2)\.{_AFFINE}|gamma))"
_LEVEL = r"subnet(\d+)\.level([0-3])"


def _sizes(weights: Mapping[str, Tensor], columns: str) -> dict:
    """Read the sizes of columns, finest level first, off names and shapes."""
    first = f"{columns}.0"
    return {
        "channels": [weights[f"{first}.gains.{level}"].shape[1] for level in range(4)],
        "depths": [
            count(weights, f"{first}.levels.{level}.blocks") for level in range(4)
        ],
        "num_columns": count(weights, columns),
    }


def _backbone_v2(weights: Mapping[str, Tensor]) -> dict:
    return {
        "type": "mmrev.RevColV2",
        "arch": _sizes(weights, "bottom_up"),
        "in_channels": weights["stem.0.weight"].shape[1],
        **norms(weights),
    }


def _backbone(weights: Mapping[str, Tensor]) -> dict:
    """Read the architecture off the names and shapes."""
    top_to_bottom = "columns.1.levels.0.ups.1.0.weight" in weights
    return {
        "type": "mmrev.RevCol",
        "arch": {**_sizes(weights, "columns"), "top_to_bottom": top_to_bottom},
        "in_channels": weights["stem.0.weight"].shape[1],
        "kernel_size": weights["columns.0.levels.0.blocks.0.dwconv.weight"].shape[-1],
        **norms(weights),
    }


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
        renames=(OWN,),
        heads=(),
        backbone=_backbone,
    ),
    Layout(
        name="mmrev.RevColV2",
        marker=r"bottom_up\.0\.gains\.0",
        renames=(OWN,),
        heads=(),
        backbone=_backbone_v2,
    ),
)
