"""What stands between backbone and head."""

from mmrev.models.necks.normalized_average_pooling import NormalizedAveragePooling

__all__ = ["NormalizedAveragePooling"]
