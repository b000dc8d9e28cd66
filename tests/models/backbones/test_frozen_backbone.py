"""A backbone that no training step changes, and that keeps nothing for one."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import get_state_dict
from test_contract import FAMILIES
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from mmrev.checkpoints import save_state_dict
from mmrev.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmrev.engine.strategies import FSDP2Strategy
from mmrev.engine.strategies.units import find_units
from mmrev.registry import MODELS

STEM = dict(stem_channels=8, base_channels=8)
TIMM = dict(features_only=True, pretrained=False)
BACKBONES = {
    **{
        name: {"type": family.type, "arch": family.arch, **family.drop_path}
        for name, family in FAMILIES.items()
    },
    "reversed revcol": {
        "type": "mmrev.RevCol",
        "arch": FAMILIES["revcol"].arch,
        "memory": "reverse",
    },
    "mmdet": {"type": "mmdet.ResNet", "depth": 18, **STEM},
    "mmseg": {"type": "mmseg.ResNetV1c", "depth": 18, **STEM},
    "mmpretrain": {"type": "mmpretrain.MobileNetV2", "widen_factor": 0.25},
    "timm": {
        "type": "mmpretrain.TIMMBackbone",
        "model_name": "mobilenetv3_small_050",
        **TIMM,
    },
}


def pair(settings):
    """The same backbone alone and frozen."""
    torch.manual_seed(0)
    plain = MODELS.build(dict(settings))
    plain.init_weights()
    rest = {key: value for key, value in settings.items() if key != "type"}
    frozen = MODELS.build(
        {"type": "mmrev.FrozenBackbone", "of": settings["type"]} | rest
    )
    frozen.init_weights()
    return plain, frozen


class WithHead(nn.Module):
    """A backbone under a head of its last level."""

    def __init__(self, backbone, channels):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(channels, 2, 1)

    def forward(self, x):
        return self.head(self.backbone(x)[-1])


@pytest.mark.filterwarnings("ignore:.* is evaluated at fade 1")
@pytest.mark.parametrize("name", BACKBONES)
def test_steps_leave_it_as_it_is(name):
    plain, frozen = pair(BACKBONES[name])
    # Keys are the backbone's own, both ways.
    frozen.load_state_dict(plain.state_dict())
    assert list(frozen.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(frozen.state_dict())
    x = torch.rand(2, 3, 64, 64)
    plain.eval()
    with torch.no_grad():
        expected = plain(x)
    before = copy.deepcopy(frozen.state_dict())
    model = WithHead(frozen, expected[-1].shape[1]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    for _ in range(2):
        levels = frozen(x)  # no drop path, statistics of running
        assert not any(level.requires_grad for level in levels)
        assert all(map(torch.equal, levels, expected))
        model(x).square().mean().backward()
        optimizer.step()
    assert not any(p.requires_grad or p.grad is not None for p in frozen.parameters())
    after = frozen.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(module.training for module in frozen.model.modules())


def test_checkpoints_of_a_model_fit_with_and_without():
    plain, frozen = pair(BACKBONES["revcol"])
    models = WithHead(plain, 24), WithHead(frozen, 24)
    assert list(get_state_dict(models[1])) == list(models[0].state_dict())
    models[1].load_state_dict(models[0].state_dict())
    for key, value in models[1].state_dict().items():
        assert torch.equal(value, models[0].state_dict()[key])


def test_loads_weights_as_the_backbone_does(tmp_path):
    plain, _ = pair(BACKBONES["nfnet"])
    save_state_dict(plain.state_dict(), tmp_path / "weights.pth")
    start = dict(type="Pretrained", checkpoint=str(tmp_path / "weights.pth"))
    _, frozen = pair({**BACKBONES["nfnet"], "init_cfg": start})
    found = frozen.state_dict()
    assert all(torch.equal(v, found[key]) for key, v in plain.state_dict().items())


def test_layer_decay_counts_the_heads_parameters_alone():
    _, frozen = pair(BACKBONES["swin"])
    model = WithHead(frozen, 128)
    wrapper = LayerDecayOptimWrapperConstructor(
        {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1.0}},
        {"decay_rate": 0.5},
    )(model)
    groups = wrapper.optimizer.param_groups
    assert {p for group in groups for p in group["params"]} == {
        *model.head.parameters()
    }
    assert {group["lr"] for group in groups} == {1.0}


def test_averages_of_weights_stay_the_weights():
    _, frozen = pair(BACKBONES["reducenet"])
    model = WithHead(frozen, 24)
    average = ExponentialMovingAverage(model, momentum=0.3)
    for _ in range(3):
        average.update_parameters(model)
    found = average.module.backbone.state_dict()
    assert all(torch.equal(v, found[key]) for key, v in frozen.state_dict().items())


def test_keeps_nothing_but_levels_under_autocast():
    _, frozen = pair(BACKBONES["swin"])
    saved = []
    hooks = torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        levels = frozen.train()(torch.rand(1, 3, 64, 64))
    assert not saved
    assert not any(level.requires_grad for level in levels)


def test_has_the_backbones_attributes():
    _, frozen = pair(BACKBONES["revcol"])
    assert frozen.channels == FAMILIES["revcol"].channels
    assert frozen.no_weight_decay == frozen.model.no_weight_decay
    with pytest.raises(AttributeError, match="nothing"):
        _ = frozen.nothing


@pytest.mark.parametrize("name", ["revcol", "mmdet"])
def test_is_gathered_as_the_backbone_is(name):
    plain, frozen = (WithHead(one, 24) for one in pair(BACKBONES[name]))
    assert len(find_units(frozen)) == len(find_units(plain)) > 0


def stepped(model, share):
    """The head's weights after two steps, in whatever wraps the model."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        optimizer.zero_grad()
        model.train()(images[share]).square().mean().backward()
        optimizer.step()
    return [getattr(p, "full_tensor", lambda p=p: p)().detach() for p in trained]


def in_process(rank, way):
    share = slice(2 * rank, 2 * rank + 2)
    torch.manual_seed(0)
    model = WithHead(pair(BACKBONES["revcol"])[1], 24)
    if way == "whole":
        return stepped(DistributedDataParallel(model), share)
    return stepped(FSDP2Strategy().shard(model), share)


@pytest.mark.parametrize("way", ["whole", "in parts"])
def test_processes_share_the_heads_steps_alone(process_pair, way):
    torch.manual_seed(0)
    expected = stepped(WithHead(pair(BACKBONES["revcol"])[1], 24), slice(None))
    assert len(expected) == 2
    for found in process_pair.run(in_process, way):
        assert_close(found, expected)
