"""The linear head against its arithmetic, written out."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from torch.testing import assert_close

from mmrev.registry import MODELS

LEVELS = [torch.rand(2, 4 * 2**i, 16 >> i, 12 >> i) for i in range(3)]


def build(in_channels, **settings):
    DefaultScope.get_instance("test-linear-head", scope_name="mmseg")
    torch.manual_seed(0)
    head = MODELS.build(
        {
            "type": "mmrev.LinearHead",
            "in_channels": in_channels,
            "num_classes": 5,
            "norm_cfg": {"type": "BN"},
            "align_corners": False,
            **settings,
        }
    )
    head.init_weights()
    return head


@pytest.mark.parametrize("in_channels", [16, [4, 8, 16]])
def test_is_normalisation_and_one_product(in_channels):
    head = build(in_channels, dropout_ratio=0.0).train()
    x = LEVELS[2]
    if isinstance(in_channels, list):
        size = LEVELS[0].shape[2:]
        same = [F.interpolate(x, size, mode="bilinear") for x in LEVELS]
        x = torch.cat(same, dim=1)
    mean = x.mean((0, 2, 3), keepdim=True)
    scale = x.var((0, 2, 3), unbiased=False, keepdim=True).add(1e-5).rsqrt()
    weight, bias = head.conv_seg.weight, head.conv_seg.bias
    assert weight.shape == (5, x.shape[1], 1, 1)
    expected = F.conv2d((x - mean) * scale, weight, bias)
    assert_close(head(LEVELS), expected)
    assert sum(p.numel() for p in head.parameters()) == 7 * x.shape[1] + 5


def test_dropout_is_of_the_training_alone():
    head = build(16, dropout_ratio=0.5).eval()
    assert_close(head(LEVELS), head(LEVELS))
    head.train()
    assert not torch.equal(head(LEVELS), head(LEVELS))
