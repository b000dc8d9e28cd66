"""One file a family; no family imports another."""

from mmrev.models.backbones.frozen_backbone import FrozenBackbone
from mmrev.models.backbones.nfnet import NFNet
from mmrev.models.backbones.reducenet import ReduceNet
from mmrev.models.backbones.revcol import RevCol
from mmrev.models.backbones.revcol_v2 import RevColV2
from mmrev.models.backbones.swin_transformer_v2 import SwinTransformerV2
from mmrev.models.backbones.vanillanet import VanillaNet

__all__ = [
    "FrozenBackbone",
    "NFNet",
    "ReduceNet",
    "RevCol",
    "RevColV2",
    "SwinTransformerV2",
    "VanillaNet",
]
