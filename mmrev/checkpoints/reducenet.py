"""The layout of ReduceNet checkpoints; no other code base has these networks."""

from collections.abc import Mapping

from torch import Tensor

from mmrev.checkpoints.layout import OWN, Layout, norms


def _backbone(weights: Mapping[str, Tensor]) -> dict:
    """Read the architecture off the names and shapes.

    Raises:
        ValueError: if it cannot be read off, as of fused chains.
    """
    deploy = "stages.0.0.body.weight" in weights
    first, last = ("body", "body") if deploy else ("body.0", "body.3")
    if weights[f"stages.0.0.{first}.weight"].shape[-1] != 3:
        raise ValueError(
            "ReduceNet: expected blocks that are one 3x3 convolution each, got fused "
            "chains, whose architecture the weights do not tell. Load them with the "
            "config that was written with them."
        )
    channels, depths, hidden = [], [], 0
    for stage in range(4):
        block = 0
        while (name := f"stages.{stage}.{block}.{last}.weight") in weights:
            out_channels, hidden = weights[name].shape[:2]
            block += 1
        channels.append(out_channels)
        depths.append(block)
    expansion = 1 if deploy else hidden // channels[-1]
    return {
        "type": "mmrev.ReduceNet",
        "arch": {"channels": channels, "depths": depths, "expansion": expansion},
        "activation_free": "stem.body.2.fade" in weights,
        "deploy": deploy,
        **norms(weights),
    }


LAYOUTS = (
    Layout(
        name="mmrev.ReduceNet",
        marker=r"stages\.0\.0\.body\.(?:0\.)?weight",
        renames=(OWN,),
        heads=(),
        backbone=_backbone,
    ),
)
