"""What stands between backbone and head."""

from mmrev.models.necks.nfnet_pooling import NFNetPooling
from mmrev.models.necks.normalized_average_pooling import NormalizedAveragePooling

__all__ = ["NFNetPooling", "NormalizedAveragePooling"]
