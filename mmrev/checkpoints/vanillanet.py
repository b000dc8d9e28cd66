"""Layouts of VanillaNet checkpoints.

Reference: huawei-noah/VanillaNet @6aaf731: the training form (models/vanillanet.py and,
without classifier, object_detection/) and the form that its ``switch_to_deploy``
leaves.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mmrev.checkpoints.layout import AFFINE, NORM, OWN, Layout, norms


def _into_stages(weights: dict[str, Tensor], _: Mapping[str, Tensor]) -> dict:
    """Find the blocks' levels, and what the reference does not save: the fade.

    The reference trains until the leaky slope is 1, so its fades count as finished.
    """
    first, last = "conv.0.weight", "conv.3.weight"
    if f"blocks.0.{first}" not in weights:
        first = last = "conv.weight"
    stages: dict[str, str] = {}
    stage = block = index = 0
    while (name := f"blocks.{index}.{last}") in weights:
        # Official blocks pool exactly where they double the channels.
        if len(weights[name]) > weights[f"blocks.{index}.{first}"].shape[1]:
            stage, block = stage + 1, 0
        stages[f"blocks.{index}."] = f"stages.{stage}.{block}."
        index, block = index + 1, block + 1
    result = {
        re.sub(r"^blocks\.\d+\.", lambda found: stages[found[0]], key): value
        for key, value in weights.items()
    }
    fades = {
        key.replace("conv.0.weight", "conv.2.fade"): torch.zeros(())
        for key in result
        if re.fullmatch(r"(stem|stages\.\d+\.\d+)\.conv\.0\.weight", key)
    }
    return result | fades


def _backbone(weights: Mapping[str, Tensor]) -> dict:
    """Read the architecture off the names and shapes."""
    deploy = "stem.conv.weight" in weights
    last, series = ("conv", "act.conv") if deploy else ("conv.3", "act.conv.0")
    channels, strides = [len(weights[f"stem.{last}.weight"])], []
    for stage in range(4):
        block = 0
        while (name := f"stages.{stage}.{block}.{last}.weight") in weights:
            channels.append(len(weights[name]))
            strides.append(1 if block or not stage else 2)
            block += 1
    return {
        "type": "mmrev.VanillaNet",
        "arch": {"channels": channels, "strides": strides},
        "act_num": weights[f"stem.{series}.weight"].shape[-1] // 2,
        "deploy": deploy,
        **norms(weights),
    }


LAYOUTS = (
    Layout(
        name="vanillanet",
        marker=r"stem1\.0\.weight",
        renames=(
            (rf"stem1\.0\.{AFFINE}", r"stem.conv.0.\1"),
            (rf"stem1\.1\.{NORM}", r"stem.conv.1.\1"),
            (rf"stem2\.0\.{AFFINE}", r"stem.conv.3.\1"),
            (rf"stem2\.1\.{NORM}", r"stem.conv.4.\1"),
            (r"stem2\.2\.weight", r"stem.act.conv.0.weight"),
            (rf"stem2\.2\.bn\.{NORM}", r"stem.act.conv.1.\1"),
            (rf"stages\.(\d+)\.conv1\.0\.{AFFINE}", r"blocks.\1.conv.0.\2"),
            (rf"stages\.(\d+)\.conv1\.1\.{NORM}", r"blocks.\1.conv.1.\2"),
            (rf"stages\.(\d+)\.conv2\.0\.{AFFINE}", r"blocks.\1.conv.3.\2"),
            (rf"stages\.(\d+)\.conv2\.1\.{NORM}", r"blocks.\1.conv.4.\2"),
            (r"stages\.(\d+)\.act\.weight", r"blocks.\1.act.conv.0.weight"),
            (rf"stages\.(\d+)\.act\.bn\.{NORM}", r"blocks.\1.act.conv.1.\2"),
        ),
        heads=("cls1.", "cls2."),
        backbone=_backbone,
        adapt=_into_stages,
    ),
    Layout(
        name="vanillanet-deploy",
        marker=r"stages\.0\.act\.bias",
        renames=(
            (rf"stem\.0\.{AFFINE}", r"stem.conv.\1"),
            (rf"stem\.1\.{AFFINE}", r"stem.act.conv.\1"),
            (rf"stages\.(\d+)\.conv\.{AFFINE}", r"blocks.\1.conv.\2"),
            (rf"stages\.(\d+)\.act\.{AFFINE}", r"blocks.\1.act.conv.\2"),
        ),
        heads=("cls.",),
        backbone=_backbone,
        adapt=_into_stages,
    ),
    Layout(
        name="mmrev.VanillaNet",
        marker=r"stem\.act\.conv\.(?:0\.)?weight",
        renames=(OWN,),
        heads=(),
        backbone=_backbone,
    ),
)
