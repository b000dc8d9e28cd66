"""Layouts of NFNet checkpoints.

Reference: timm 1.0.31, models/nfnet.py: the dm_nfnet_* models, whose files hold the
weights that DeepMind published.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mmrev.checkpoints.layout import OWN, Layout, count, norms

_CONV = r"(weight|bias|gain)"
_BLOCK = r"stages\.(\d+)\.(\d+)"
# What has a kernel in a block: timm's pattern and our name.
_CONVS = {
    "conv1": "conv1",
    "conv2": "conv2",
    "conv2b": "conv3",
    "conv3": "conv4",
    r"downsample\.conv": "shortcut",
}


def _adapt(weights: dict[str, Tensor], given: Mapping[str, Tensor]) -> dict:
    """Drop the axes of length 1 that timm's gains and gates have."""
    if not any(key.endswith(".skipinit_gain") for key in given):
        raise ValueError(
            "Checkpoint: expected timm's dm_nfnet_*, got one without skipinit_gain, "
            "such as nfnet_* or eca_nfnet_*. These pad and scale otherwise under the "
            "same names and would give wrong features. Take the dm_nfnet_* file."
        )
    adapted = dict(weights)
    for key, value in weights.items():
        if key.endswith(".gain"):
            adapted[key] = value.flatten()
        elif re.search(r"\.se\.fc[12]\.weight$", key):
            adapted[key] = value.flatten(1)
    return adapted


def _backbone(weights: Mapping[str, Tensor]) -> dict:
    """Read the architecture off the names and shapes."""
    arch = {
        "channels": [
            weights[f"stages.{stage}.0.conv4.weight"].shape[0] for stage in range(4)
        ],
        "depths": [count(weights, f"stages.{stage}") for stage in range(4)],
        "group_width": weights["stages.0.0.conv2.weight"].shape[1],
    }
    return {
        "type": "mmrev.NFNet",
        "arch": arch,
        "in_channels": weights["stem.0.weight"].shape[1],
        **norms(weights),
    }


LAYOUTS = (
    Layout(
        name="timm.dm_nfnet",
        # The second key is also in what `_adapt` refuses.
        marker=r"stages\.0\.0\.(skipinit_gain|conv2b\.gain)",
        renames=(
            *(
                (rf"stem\.conv{index + 1}\.{_CONV}", rf"stem.{2 * index}.\1")
                for index in range(4)
            ),
            *(
                (rf"{_BLOCK}\.{theirs}\.{_CONV}", rf"stages.\1.\2.{ours}.\3")
                for theirs, ours in _CONVS.items()
            ),
            (
                rf"{_BLOCK}\.attn_last\.(fc[12]\.(?:weight|bias))",
                r"stages.\1.\2.se.\3",
            ),
            (rf"{_BLOCK}\.skipinit_gain", r"stages.\1.\2.skip_gain"),
        ),
        heads=("final_conv.", "head."),
        backbone=_backbone,
        adapt=_adapt,
    ),
    Layout(
        name="mmrev.NFNet",
        marker=r"stages\.0\.0\.skip_gain",
        renames=(OWN,),
        heads=(),
        backbone=_backbone,
    ),
)
