"""Distillation from the largest anchor."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmrev.models.supervision import StitchDistillation
from mmrev.registry import MODELS

ARCH = dict(channels=[8, 16, 24, 32], expansion=1)
ANCHORS = [
    dict(type="mmrev.ReduceNet", arch=dict(ARCH, depths=[1, 1, depth, 1]))
    for depth in (2, 3)
]
STITCHED = dict(
    type="mmrev.StitchedBackbone",
    anchors=ANCHORS,
    routes=dict(stages=(2,), monotone=True),
)


class Toy(BaseModel):
    """The shape of a detector."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(32, 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        out = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        return {"loss_own": out.square().mean()} if mode == "loss" else out


@pytest.fixture(autouse=True, scope="module")
def toy():
    MODELS.register_module(module=Toy, force=True)
    yield
    MODELS.module_dict.pop("Toy")


def build(backbone=STITCHED, **settings):
    torch.manual_seed(0)
    return StitchDistillation(dict(type="Toy", backbone=backbone), **settings).train()


def test_the_error_over_the_variance_of_the_largest_anchor():
    model, image = build(weight=2.0), torch.randn(2, 3, 64, 64)
    backbone = model.model.backbone.eval()
    backbone.set_stitch(1)
    with torch.no_grad():
        targets = backbone(image)
    backbone.set_stitch(2)
    losses = model(image, [], mode="loss")
    assert losses.keys() == {"loss_own", "loss_distill"}
    errors = [
        (level - target).square().mean() / target.var()
        for level, target in zip(backbone(image), targets, strict=True)
    ]
    torch.testing.assert_close(losses["loss_distill"], 2 * sum(errors) / 4)
    assert backbone.stitch == 2


def test_the_largest_anchor_is_run_as_for_evaluation_and_left_alone():
    model, image = build(), torch.randn(2, 3, 64, 64)
    backbone = model.model.backbone
    backbone.set_stitch(0)
    modes = [module.training for module in model.modules()]
    statistics = {k: v.clone() for k, v in backbone.anchors[1].named_buffers()}
    model(image, [], mode="loss")["loss_distill"].backward()
    assert [module.training for module in model.modules()] == modes
    for name, value in backbone.anchors[1].named_buffers():
        assert torch.equal(value, statistics[name]), name
    assert all(p.grad is None for p in backbone.anchors[1].parameters())
    assert any(p.grad is not None for p in backbone.anchors[0].parameters())


def test_nothing_to_learn_for_the_largest_anchor():
    model = build()
    model.model.backbone.set_stitch(1)
    losses = model(torch.randn(2, 3, 64, 64), [], mode="loss")
    assert losses["loss_distill"] == 0
    sum(losses.values()).backward()


def test_a_stitch_comes_closer_to_the_largest_anchor():
    model, image = build(), torch.randn(2, 3, 64, 64)
    model.eval()
    model.model.backbone.set_stitch(2)
    optimizer = torch.optim.Adam(model.model.backbone.stitches.parameters(), lr=1e-2)
    errors = []
    for _ in range(20):
        loss = model(image, [], mode="loss")["loss_distill"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.8 * errors[0]


def test_weights_are_those_of_the_plain_model():
    model = build()
    plain = Toy(STITCHED)
    plain.load_state_dict(model.state_dict())
    other = build()
    other.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(plain.eval()(image), other.eval()(image))
    assert other.backbone is other.model.backbone


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (ANCHORS[0], r"is a mmrev\.StitchedBackbone, got ReduceNet"),
        (dict(STITCHED, only=0), "got only=0"),
    ],
)
def test_backbones_that_cannot_be_distilled(backbone, message):
    with pytest.raises(ValueError, match=message):
        build(backbone)
