"""One step in several processes, whole or sharded, is one with all of their images."""

import pytest
import torch
import torch.distributed as dist
from mmengine.registry import MODELS, OPTIM_WRAPPERS
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mmrev.engine.strategies import FSDP2Strategy

REVCOL = dict(
    type="mmrev.RevCol",
    # An odd width: the parts of its weights are not alike.
    arch=dict(channels=[8, 16, 24, 33], depths=[1, 1, 2, 1], num_columns=3),
    layer_scale_init_value=0.5,
)
SWIN = dict(
    type="mmrev.SwinTransformerV2",
    arch=dict(embed_dims=12, depths=[2, 2, 4, 2], num_heads=[1, 2, 4, 8]),
    window_size=4,
)
NFNET = dict(
    type="mmrev.NFNet",
    arch=dict(channels=[16, 16, 24, 32], depths=[1, 1, 2, 1], group_width=8),
    skip_gain_init_value=0.5,
)
STITCHED = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            type="mmdet.SwinTransformer",
            embed_dims=8,
            depths=[2, 2, 4, 2],
            num_heads=[1, 2, 2, 4],
            window_size=4,
            drop_path_rate=0.0,
        ),
        dict(SWIN, memory="recompute"),
    ],
    routes=dict(stages=(0, 1, 2), monotone=True),
    memory="recompute",
)
ADAMW = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3),
    clip_grad=dict(max_norm=1.0),
)
AGC = dict(
    type="mmrev.AGCOptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9),
    clip_factor=0.01,
)
SAM = dict(AGC, type="mmrev.SAMOptimWrapper")
CASES = {
    **{
        f"RevCol {memory}": (dict(REVCOL, memory=memory), ADAMW)
        for memory in ("store", "recompute", "reverse")
    },
    "Swin-V2 store": (dict(SWIN, memory="store"), ADAMW),
    "Swin-V2 recompute": (dict(SWIN, memory="recompute"), ADAMW),
    "Swin-V2 reverse": (dict(SWIN, memory="reverse", coupling="two-stream"), ADAMW),
    "NFNet": (NFNET, AGC),
    "stitched": (STITCHED, ADAMW),
    "SAM": (dict(REVCOL, memory="reverse"), SAM),
}
STEPS = 3
IMAGES = 6  # shared out among two or three


class Net(nn.Module):
    """A backbone whose levels are the loss, and a linear map of its own."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)

    def init_weights(self):
        self.backbone.init_weights()

    def forward(self, images):
        # A mean over images: the mean over processes is the mean over all.
        return sum(level.square().mean() for level in self.backbone(images))

    def parse_losses(self, loss):
        return loss, {}


def images_of(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(IMAGES, 3, 64, 64, generator=generator, dtype=torch.float64)


def built(name, in_this_process=True):
    # In fp64: where a gradient is nothing but rounding, AdamW makes a step of it.
    torch.manual_seed(0)
    net = Net(CASES[name][0]).double()
    if in_this_process:
        net.init_weights()
    return net


def trained(net, name, share=slice(None)):
    """Losses of a few steps."""
    losses = []
    wrapper = dict(CASES[name][1])
    optimizer = dict(wrapper.pop("optimizer"))
    kind = getattr(torch.optim, optimizer.pop("type"))
    wrapper = OPTIM_WRAPPERS.build(
        dict(wrapper, optimizer=kind(net.parameters(), **optimizer))
    )
    backbone = getattr(net, "module", net).backbone
    stitches = getattr(backbone, "stitch_ids", None)
    if stitches:  # as mmrev.StitchSamplerHook does
        wrapper.optimizer.register_step_pre_hook(lambda *_: forget_unused(backbone))
    for step in range(STEPS):
        if stitches:
            backbone.set_stitch(stitches[-1 - step])
        with wrapper.optim_context(net):
            loss = net(images_of(step)[share])
        wrapper.update_params(loss)
        losses.append(loss.item())
    return losses


def forget_unused(backbone):
    used = set(map(id, backbone.parameters_of(backbone.stitch)))
    for parameter in backbone.parameters():
        if id(parameter) not in used:
            parameter.grad = None


def share_of(rank):
    count = IMAGES // dist.get_world_size()
    return slice(count * rank, count * (rank + 1))


def in_whole(rank, name):
    net = DistributedDataParallel(built(name))
    losses = trained(net, name, share_of(rank))
    return losses, {k: v.detach() for k, v in net.module.named_parameters()}


def in_parts(rank, name):
    strategy = FSDP2Strategy()
    with strategy.building():
        net = built(name, in_this_process=rank == 0)
    # Only the first process ever has a whole model.
    assert {p.is_meta for p in net.parameters()} == {rank != 0}
    net = strategy.shard(net)
    losses = trained(net, name, share_of(rank))
    assert all(isinstance(p, DTensor) for p in net.parameters())
    weights = {k: v.full_tensor().detach() for k, v in net.named_parameters()}
    return losses, weights


WAYS = {"whole": in_whole, "in parts": in_parts}


def difference(found, name):
    """The largest of losses and weights, relative to the largest of each tensor."""
    net = built(name)
    losses = torch.tensor(trained(net, name), dtype=torch.float64)
    theirs = torch.tensor([one for one, _ in found], dtype=torch.float64).mean(0)
    worst = ((theirs - losses).abs() / losses.abs()).max().item()
    start = dict(built(name).named_parameters())
    moved = 0
    for key, value in net.named_parameters():
        for _, weights in found:
            error = (weights[key].view_as(value) - value).abs().max()
            worst = max(worst, (error / value.abs().max().clamp(min=1e-3)).item())
        moved += not torch.equal(value, start[key])
    assert moved > 10
    return worst


# The others, and three processes, take too long for every change.
SOME = ("RevCol reverse", "Swin-V2 reverse", "NFNet", "stitched")


def marks_of(group, way, name):
    if way == "whole" or name not in SOME:
        return [pytest.mark.slow]
    return [pytest.mark.slow, pytest.mark.ci] if group == "process_trio" else []


@pytest.mark.parametrize(
    ("group", "way", "name"),
    [
        pytest.param(group, way, name, marks=marks_of(group, way, name))
        for group in ("process_pair", "process_trio")
        for way in WAYS
        for name in CASES
        # In whole models each process climbs by its own images.
        if (way, name) != ("whole", "SAM")
    ],
)
def test_processes_train_as_one(group, way, name, request):
    found = request.getfixturevalue(group).run(WAYS[way], name)
    # AdamW magnifies the rounding of gradients that are next to nothing.
    assert difference(found, name) < 1e-8
