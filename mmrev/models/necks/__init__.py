"""What stands between backbone and head."""

from mmrev.models.necks.nfnet_pooling import NFNetPooling
from mmrev.models.necks.normalized_average_pooling import NormalizedAveragePooling
from mmrev.models.necks.simple_feature_pyramid import SimpleFeaturePyramid
from mmrev.models.necks.vanillanet_pooling import VanillaNetPooling

__all__ = [
    "NFNetPooling",
    "NormalizedAveragePooling",
    "SimpleFeaturePyramid",
    "VanillaNetPooling",
]
