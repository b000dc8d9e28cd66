"""Layers shared by two families or more."""

from mmrev.models.layers.columns import (
    NUM_LEVELS,
    BottomUpColumn,
    Level,
    check_sizes,
    make_gains,
)
from mmrev.models.layers.convnext import ConvNeXtBlock
from mmrev.models.layers.coupled import COUPLINGS, SHORTEST, Coupled
from mmrev.models.layers.deployable import Deployable
from mmrev.models.layers.faded import FadedReLU, largest_fade
from mmrev.models.layers.fusion import Kernel, cheapest_grouping
from mmrev.models.layers.norm import LayerNorm2d
from mmrev.models.layers.padding import pad_to_multiple
from mmrev.models.layers.ws_conv import WSConv2d

__all__ = [
    "COUPLINGS",
    "NUM_LEVELS",
    "SHORTEST",
    "BottomUpColumn",
    "ConvNeXtBlock",
    "Coupled",
    "Deployable",
    "FadedReLU",
    "Kernel",
    "LayerNorm2d",
    "Level",
    "WSConv2d",
    "cheapest_grouping",
    "check_sizes",
    "largest_fade",
    "make_gains",
    "pad_to_multiple",
]
