"""Layers shared by two families or more."""

from mmrev.models.layers.convnext import ConvNeXtBlock
from mmrev.models.layers.norm import LayerNorm2d

__all__ = ["ConvNeXtBlock", "LayerNorm2d"]
