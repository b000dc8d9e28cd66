"""Every memory mode under DistributedDataParallel, two gloo processes."""

import pytest
import torch
from outcomes import assert_same_bits, loss_of
from torch.nn.parallel import DistributedDataParallel
from toys import toy_columns

from mmrev.reversible import MEMORY_MODES, in_mode, run_columns

WORLD_SIZE = 2
# Memory mode, and how many of the three outputs a loss uses.
CASES = [(memory, used) for memory in MEMORY_MODES for used in (3, 1)]


class Net(torch.nn.Module):
    """Columns of which the coarsest output may stay unused."""

    def __init__(self, memory, used):
        super().__init__()
        self.columns = toy_columns(4, dropout=0.0)
        self.memory, self.used = memory, used

    def forward(self, x):
        states, _ = run_columns(self.columns, x, None, (), in_mode(self.memory))
        return loss_of(states[: self.used])


def batch(rank):
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=generator)


def work(rank):
    grads = {}
    for memory, used in CASES:
        model = DistributedDataParallel(
            Net(memory, used), find_unused_parameters=used < 3
        )
        for accumulate in (True, False):
            with model.no_sync() if accumulate else torch.enable_grad():
                model(batch(rank)).backward()
        grads[memory, used] = [p.grad for p in model.parameters()]
    return grads


@pytest.fixture(scope="module")
def averaged(process_pair):
    """The gradients of each case in two processes."""
    return process_pair.run(work)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_averaged(case, averaged):
    one, other = averaged
    assert_same_bits(one[case], other[case])
    assert_same_bits(one[case], one["store", case[1]])
    net = Net("store", case[1])
    for rank in range(WORLD_SIZE):
        (2 * net(batch(rank)) / WORLD_SIZE).backward()
    for grad, parameter in zip(one[case], net.parameters(), strict=True):
        if parameter.grad is not None:
            torch.testing.assert_close(grad, parameter.grad, rtol=0, atol=1e-12)
        else:
            assert grad is None or not grad.any()
