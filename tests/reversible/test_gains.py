"""Gains of columns: how small they may be, and how many kernels that takes."""

import pytest
import torch
from dispatched import Dispatched
from torch import nn
from toys import toy_columns

from mmrev.reversible import effective_gains, run_columns


def test_are_no_smaller_than_the_floor():
    gains = [
        nn.Parameter(torch.tensor([[0.5], [1e-4], [0.0]])),
        nn.Parameter(torch.tensor([-0.0, -1e-4, -2.0, 1e-3])),
        torch.tensor(-0.1),
    ]
    before = [gain.detach().clone() for gain in gains]
    one, two, three = effective_gains(gains)
    assert one.tolist() == torch.tensor([[0.5], [1e-3], [1e-3]]).tolist()
    assert two.tolist() == torch.tensor([1e-3, -1e-3, -2.0, 1e-3]).tolist()
    assert three == torch.tensor(-0.1)
    assert all(map(torch.equal, gains, before))
    (3 * one.sum() + (two * torch.arange(4)).sum()).backward()
    assert gains[0].grad.tolist() == [[3.0]] * 3
    assert gains[1].grad.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert effective_gains([]) == []


@pytest.mark.parametrize("count", [1, 2, 8])
def test_are_computed_together(count):
    columns, x = toy_columns(count), torch.randn(1, 4, 5, 3, dtype=torch.float64)
    with Dispatched() as operations:
        run_columns(columns, x)
    assert operations.counts["clamp"] == 2 * (count > 1)
