"""A student's steps in several processes, each with a teacher that is in no part."""

import pytest
import torch
from mmpretrain.structures import DataSample
from test_fsdp2 import images_of, share_of
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mmrev.engine.strategies import FSDP2Strategy
from mmrev.models.supervision import FeatureDistillation

CHANNELS = [8, 16, 24, 32]
STUDENT = dict(
    type="mmrev.RevCol",
    arch=dict(channels=CHANNELS, depths=[1, 1, 2, 1], num_columns=2),
    memory="reverse",
    layer_scale_init_value=0.5,
)
TEACHER = dict(
    type="mmrev.NFNet",
    arch=dict(channels=[16, 24, 32, 48], depths=[1, 1, 2, 1], group_width=4),
    out_indices=(2, 3),
    init_cfg=None,  # noise teaches as well here
)
STEPS = 3


def built():
    torch.manual_seed(0)
    return FeatureDistillation(
        dict(type="mmrev.BareModel", backbone=STUDENT),
        TEACHER,
        in_channels=CHANNELS[2:],
        out_channels=[32, 48],
        levels=(2, 3),
    )


def trained(net, share=slice(None)):
    """Losses of a few steps."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for step in range(STEPS):
        images = images_of(step)[share].float()  # as teachers take them
        samples = [DataSample(metainfo=dict(img_shape=(64, 64)))] * len(images)
        loss = net(images, samples, mode="loss")["loss_distill"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def in_whole(rank):
    net = built()
    net.init_weights()
    losses = trained(DistributedDataParallel(net), share_of(rank))
    return losses, {k: v.detach() for k, v in net.named_parameters()}


def in_parts(rank):
    strategy = FSDP2Strategy()
    with strategy.building():
        net = built()
    if rank == 0:
        net.init_weights()
    net = strategy.shard(net)
    losses = trained(net, share_of(rank))
    teacher = net.teacher._model.parameters()
    assert not any(isinstance(p, DTensor) or p.is_meta for p in teacher)
    return losses, {k: v.full_tensor().detach() for k, v in net.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("way", [in_whole, in_parts])
def test_processes_distil_as_one(way, process_pair):
    found = process_pair.run(way)
    net = built()
    net.init_weights()
    start = {k: v.detach().clone() for k, v in net.named_parameters()}
    losses = torch.tensor(trained(net))
    theirs = torch.tensor([one for one, _ in found]).mean(0)
    torch.testing.assert_close(theirs, losses, rtol=1e-5, atol=0)
    for key, value in net.named_parameters():
        step = value.detach() - start[key]
        assert step.any() == value.requires_grad, key
        for _, weights in found:
            theirs = weights[key].view_as(value) - start[key]
            # Beside the rounding of the weights, in which both steps are counted.
            bound = 1e-5 * step.abs().max() + 1e-7 * value.abs().max()
            assert (theirs - step).abs().max() <= bound, key
