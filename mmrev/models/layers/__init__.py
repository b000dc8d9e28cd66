"""Layers shared by two families or more."""

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
    "SHORTEST",
    "ConvNeXtBlock",
    "Coupled",
    "Deployable",
    "FadedReLU",
    "Kernel",
    "LayerNorm2d",
    "WSConv2d",
    "cheapest_grouping",
    "largest_fade",
    "pad_to_multiple",
]
