"""Experts divided over processes train as whole ones do in one."""

import copy

import pytest
import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmrev.engine.strategies.experts import ExpertParallelStrategy, whole_experts
from mmrev.models.backbones.swin_transformer_v2 import SwinTransformerV2
from mmrev.models.layers.moe import Experts, routings

STEPS = 3
# Every process has images of its own size, so that its experts have other capacities.
SIZES = [(64, 64), (64, 96), (32, 64)]


class Net(nn.Module):
    """A backbone whose levels, and the balance of its experts, are the loss."""

    def __init__(self, count, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = SwinTransformerV2(
            dict(embed_dims=8, depths=[1, 1, 4, 2], num_heads=[1, 1, 2, 2]),
            window_size=4,
            moe=dict(num_experts=count, **settings.pop("moe", {})),
            **settings,
        )
        for parameter in self.backbone.parameters():
            nn.init.normal_(parameter, std=0.2)
        # In fp64: where a gradient is nothing but rounding, AdamW makes a step of it.
        self.double()

    def forward(self, images):
        with routings(self) as found:
            levels = self.backbone(images)
        own = sum(level.square().mean() for level in levels)
        dropped = sum(int(one.dropped) for (one,) in found.values())
        balance = sum(one.balance for (one,) in found.values())
        return own + (balance if self.training else 0), dropped


def images_of(step, rank, size=None):
    generator = torch.Generator().manual_seed(10 * step + rank)
    size = size or SIZES[rank]
    return torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)


def steps(net, wrapper, losses):
    """Train; ``losses`` are those of a step."""
    found = []
    for step in range(STEPS):
        loss, dropped = losses(net, step)
        wrapper.update_params(loss)
        found.append((loss.item(), dropped))
    return found


def seeded(net, step, rank):
    torch.manual_seed(10 * step + rank)
    return net(images_of(step, rank))


def optimizer_of(net):
    # With a norm that always clips, and once more than before it was lowered.
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    return OptimWrapper(optimizer, clip_grad=dict(max_norm=0.1))


def parallel(rank, count, settings):
    strategy = ExpertParallelStrategy()
    net = Net(count, **settings)
    strategy.divide(net)
    wrapper = optimizer_of(net)
    wrapper.clip_func = strategy.clip_grad_norm
    wrapped = DistributedDataParallel(net)
    found = steps(wrapped, wrapper, lambda net, step: seeded(net, step, rank))
    mine = [m for m in net.modules() if isinstance(m, Experts)]
    assert all(len(layer.own) * dist.get_world_size() == count for layer in mine)
    held = {n: p.untyped_storage().nbytes() for n, p in net.named_parameters()}
    with whole_experts(net), strategy.whole_states(wrapper.optimizer):
        weights = {n: p.detach().clone() for n, p in net.named_parameters()}
        state = copy.deepcopy(wrapper.optimizer.state_dict())
        with torch.no_grad():
            levels = net.eval().backbone(images_of(9, 0))
    again = {n: p.untyped_storage().nbytes() for n, p in net.named_parameters()}
    assert held == again
    assert len(wrapper.optimizer.state) < len(weights)
    return found, weights, state, levels


def alone(world, count, settings):
    """The same in this process: the mean of the processes' losses."""
    net = Net(count, **settings)
    wrapper = optimizer_of(net)

    def losses(net, step):
        found = [seeded(net, step, rank) for rank in range(world)]
        return sum(loss for loss, _ in found) / world, sum(n for _, n in found)

    found = steps(net, wrapper, losses)
    levels = net.eval().backbone(images_of(9, 0))
    return found, dict(net.named_parameters()), wrapper.optimizer.state_dict(), levels


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("group", "count", "settings"),
    [
        ("process_pair", 4, dict(drop_path_rate=0.3)),
        ("process_pair", 2, dict(memory="recompute", drop_path_rate=0.3)),
        ("process_pair", 4, dict(memory="reverse", coupling="dual")),
        pytest.param(
            "process_trio",
            6,
            dict(memory="recompute", drop_path_rate=0.3),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_processes_train_as_one_with_their_mean_loss(group, count, settings, request):
    """Routing, capacities and balance are each process's own, as in Tutel."""
    processes = request.getfixturevalue(group)
    found = processes.run(parallel, count, settings)
    world = len(found)
    steps_alone, weights_alone, state_alone, levels_alone = alone(
        world, count, settings
    )
    for step, (loss, dropped) in enumerate(steps_alone):
        close(sum(steps[step][0] for steps, *_ in found) / world, loss)
        assert sum(steps[step][1] for steps, *_ in found) == dropped
    assert sum(dropped for _, dropped in steps_alone) > 0
    start = dict(Net(count, **settings).named_parameters())
    moved = sum(not torch.equal(start[n], p) for n, p in weights_alone.items())
    assert moved > len(start) / 2
    for _, weights, _, levels in found:
        assert weights.keys() == weights_alone.keys()
        for name, value in weights_alone.items():
            close(weights[name], value)
        for level, expected in zip(levels, levels_alone, strict=True):
            close(level, expected)
    # The optimizer's state is whole in the first process.
    state = found[0][2]
    assert state["param_groups"] == state_alone["param_groups"]
    assert state["state"].keys() == state_alone["state"].keys()
    for number, values in state_alone["state"].items():
        for name, value in values.items():
            close(state["state"][number][name], value)
    assert found[1][2]["state"].keys() < state["state"].keys()


def gradients_of_all(rank):
    net = Net(4, moe=dict(capacity_factor=9.0)).eval()
    ExpertParallelStrategy().divide(net)
    wrapped = DistributedDataParallel(net)
    loss, dropped = wrapped(images_of(0, rank, (64, 64)))
    loss.backward()
    assert not dropped
    return loss.item(), {n: p.grad for n, p in net.named_parameters()}


def test_two_processes_are_one_with_all_images(process_pair):
    """Where nothing is dropped: capacity and priority are of a process's own tokens."""
    found = process_pair.run(gradients_of_all)
    net = Net(4, moe=dict(capacity_factor=9.0)).eval()
    loss, _ = net(torch.cat([images_of(0, rank, (64, 64)) for rank in (0, 1)]))
    loss.backward()
    close(sum(one for one, _ in found) / 2, loss.item())
    experts = set()
    for name, parameter in net.named_parameters():
        several = [gradients[name] for _, gradients in found]
        if ".experts." in name:
            ((owner, gradient),) = [
                (i, g) for i, g in enumerate(several) if g is not None
            ]
            experts.add((owner, name.partition(".experts.")[2][0]))
            several = [gradient]
        for gradient in several:
            close(gradient, parameter.grad)
    assert experts == {(0, "0"), (0, "1"), (1, "2"), (1, "3")}


def refusal(rank, count):
    net = nn.Linear(2, 2) if count is None else Net(count)
    with pytest.raises(ValueError) as caught:
        ExpertParallelStrategy().divide(net)
    return str(caught.value)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (3, "the 3 experts of backbone.stages.2.1.mlp.layer do not divide over 2 proc"),
        (3, "Start 1 or 3 of them, or set num_experts to a multiple of 2, as 4."),
        (9, "Start 1 or 3 or 9 of them, or set num_experts to a multiple of 2, as 10."),
        (1, "Start 1 of them, or set num_experts to a multiple of 2, as 2."),
        (None, "Linear has no experts, as mmrev.SwinTransformerV2(moe="),
    ],
)
def test_what_cannot_be_divided(count, message, process_pair):
    for said in process_pair.run(refusal, count):
        assert message in said
