"""A sharded run saved by some processes, resumed by others, as if nothing had been."""

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from mmrev.checkpoints.runs import read_checkpoint
from mmrev.engine.strategies import FSDP2Strategy
from mmrev.engine.strategies.checkpoints import Parts


class Net(nn.Module):
    """With a parameter of no axis, one that is frozen midway, and a buffer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5)) for _ in range(3)
        )
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("mean", torch.full((2,), 3.0), persistent=False)
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        for layer in self.layers:
            x = x + self.scale * layer(x)
        return (x - self.mean[0]).square().mean()


def started():
    torch.manual_seed(0)
    strategy = FSDP2Strategy()
    with strategy.building():
        net = Net()
    net = strategy.shard(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    return net, optimizer, Parts(net, optimizer, strategy.scalars)


def steps(net, optimizer, first, last):
    for step in range(first, last):
        # The same images in all processes, so that their number does not matter.
        generator = torch.Generator().manual_seed(step)
        net(torch.randn(4, 5, generator=generator)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [p.full_tensor().detach() for p in net.parameters()]


def frozen(net):
    net.layers[0].requires_grad_(False)


def saved(rank, path):
    net, optimizer, parts = started()
    assert isinstance(net.scale, DTensor) and net.mean[0] == 3
    steps(net, optimizer, 0, 2)
    frozen(net)
    net.count.fill_(7)
    parts.save(
        path,
        {
            "state_dict": net.state_dict(),
            "optimizer": optimizer.state_dict(),
            "meta": {"iter": 2},
        },
    )
    return steps(net, optimizer, 2, 4)


def resumed(rank, path):
    net, optimizer, parts = started()
    checkpoint = parts.load(path)
    net.load_state_dict(checkpoint["state_dict"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    # A frozen parameter's moments are there, too: it may be trained again.
    assert len(optimizer.state) == len(list(net.parameters())) == 13
    for parameter, state in optimizer.state.items():
        assert isinstance(state["exp_avg"], DTensor)
        assert state["exp_avg"].placements == parameter.placements
        assert not isinstance(state["step"], DTensor) and state["step"] == 2
    frozen(net)
    assert net.count == 7 and checkpoint["meta"] == {"iter": 2}
    return steps(net, optimizer, 2, 4)


TRIO = pytest.param("process_trio", marks=[pytest.mark.slow, pytest.mark.ci])


@pytest.mark.parametrize("last", ["process_pair", TRIO])
@pytest.mark.parametrize("first", ["process_pair", TRIO])
@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_resumed_run_goes_on_exactly(first, last, form, tmp_path, request):
    path = tmp_path / "iter_2.dcp"
    expected = request.getfixturevalue(first).run(saved, path)[0]
    if form == "file":
        torch.save(read_checkpoint(path), tmp_path / "iter_2.pth")
        path = tmp_path / "iter_2.pth"
    for found in request.getfixturevalue(last).run(resumed, path):
        for one, other in zip(found, expected, strict=True):
            if first == last:
                assert torch.equal(one, other)
            torch.testing.assert_close(one, other)


def test_a_file_of_it_has_what_a_run_in_one_process_has(process_pair, tmp_path):
    expected = process_pair.run(saved, tmp_path / "iter_2.dcp")[0]
    checkpoint = read_checkpoint(tmp_path / "iter_2.dcp")
    net = Net()
    net.load_state_dict(checkpoint["state_dict"])
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    optimizer.load_state_dict(checkpoint["optimizer"])
    assert optimizer.state[net.scale]["exp_avg"].shape == ()
    frozen(net)
    for step in (2, 3):
        generator = torch.Generator().manual_seed(step)
        net(torch.randn(4, 5, generator=generator)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for one, other in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(one.detach(), other.view_as(one))
