"""The classifier's input."""

import torch
from torch import nn

from mmrev.models.necks import NormalizedAveragePooling


def test_equals_average_then_norm():
    neck = NormalizedAveragePooling(8)
    nn.init.normal_(neck.norm.weight)
    nn.init.normal_(neck.norm.bias)
    levels = torch.randn(2, 4, 6, 6), torch.randn(2, 8, 3, 5)
    (pooled,) = neck(levels)
    reference = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), neck.norm)
    torch.testing.assert_close(pooled, reference(levels[-1]))
    assert pooled.shape == (2, 8)
