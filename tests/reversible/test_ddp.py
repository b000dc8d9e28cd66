"""Every memory mode under DistributedDataParallel, two gloo processes."""

import pytest
import torch
from tolerances import assert_close
from torch.nn.parallel import DistributedDataParallel
from toy_columns import toy_columns

from mmrev.reversible import ColumnEngine

WORLD_SIZE = 2
# Memory mode, anchors, and how many of the three outputs a loss uses.
CASES = [
    (memory, every, num_used)
    for memory, every in (("recompute", "auto"), ("reverse", 2))
    for num_used in (3, 1)
]


class Net(torch.nn.Module):
    """Columns of which the coarsest output may stay unused."""

    def __init__(self, memory, anchor_every, num_used):
        super().__init__()
        self.columns = toy_columns(4, dropout=0.0)
        self.engine = ColumnEngine(memory, anchor_every)
        self.num_used = num_used

    def forward(self, x):
        states, _ = self.engine(self.columns, x)
        return sum((state**2).mean() for state in states[: self.num_used])


def batch(rank):
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=generator)


def work(rank):
    grads = {}
    for memory, every, num_used in CASES:
        model = DistributedDataParallel(
            Net(memory, every, num_used), find_unused_parameters=num_used < 3
        )
        for accumulate in (True, False):
            with model.no_sync() if accumulate else torch.enable_grad():
                model(batch(rank)).backward()
        grads[memory, every, num_used] = [p.grad for p in model.parameters()]
    return grads


@pytest.fixture(scope="module")
def averaged(process_pair):
    """The gradients of each case after two processes."""
    return process_pair.run(work)[0]


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_averaged(case, averaged):
    net = Net("store", "auto", case[2])
    for rank in range(WORLD_SIZE):
        (2 * net(batch(rank)) / WORLD_SIZE).backward()
    for grad, parameter in zip(averaged[case], net.parameters(), strict=True):
        if parameter.grad is not None:
            assert_close(grad, parameter.grad)
        else:
            assert grad is None or not grad.any()
