"""Operation counts of known layers."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mmrev.measure.flops import count_flops


def test_known_counts():
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert count_flops(conv, torch.zeros(2, 3, 10, 10)) == 2 * 8 * 10 * 10 * 3 * 9
    linear = nn.Linear(5, 7)
    assert count_flops(linear, torch.zeros(4, 5)) == 4 * 5 * 7


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_counts_and_keywords_pass(device):
    q = torch.zeros(1, 2, 6, 4, device=device)
    flops = count_flops(scaled_dot_product_attention, q, q, q, is_causal=False)
    assert flops == 2 * (6 * 6 * 4) * 2
