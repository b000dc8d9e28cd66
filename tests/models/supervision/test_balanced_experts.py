"""The balance of experts as a loss of any model, in every memory mode."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmrev.models.layers.moe import routings
from mmrev.models.supervision import BalancedExperts
from mmrev.registry import MODELS

SWIN = dict(
    type="mmrev.SwinTransformerV2",
    arch=dict(embed_dims=8, depths=[1, 1, 4, 2], num_heads=[1, 1, 2, 2]),
    window_size=4,
    drop_path_rate=0.2,
)
SPARSE = dict(SWIN, moe=dict(num_experts=4))


class Small(BaseModel):
    """The shape of a detector."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        for parameter in self.backbone.parameters():
            nn.init.normal_(parameter, std=0.2)  # branches that count

    def forward(self, inputs, data_samples=None, mode="tensor"):
        levels = self.backbone(inputs)
        own = sum(level.square().mean() for level in levels)
        return {"loss_own": own} if mode == "loss" else levels


@pytest.fixture(autouse=True, scope="module")
def registered():
    MODELS.register_module(module=Small, force=True)
    yield
    MODELS.module_dict.pop("Small")


def build(backbone=SPARSE, **settings):
    torch.manual_seed(0)
    return BalancedExperts(dict(type="Small", backbone=backbone), **settings).train()


def test_adds_the_weighted_balance_and_the_share_that_is_dropped():
    model, image = build(weight=2.0), torch.randn(2, 3, 64, 64)
    torch.manual_seed(1)
    losses = model(image, [], mode="loss")
    torch.manual_seed(1)
    with routings(model) as found:
        assert torch.equal(
            model.model(image, mode="loss")["loss_own"], losses.pop("loss_own")
        )
    names = {
        f"model.backbone.stages.{place}.mlp.layer.router"
        for place in ("2.1", "2.3", "3.1")
    }
    assert found.keys() == names
    passes = [routing for (routing,) in found.values()]
    torch.testing.assert_close(
        losses.pop("loss_balance"), 2 * sum(i.balance for i in passes)
    )
    dropped = sum(int((~i.kept).sum()) for i in passes)
    assert dropped > 0
    assert float(losses.pop("dropped_tokens")) == pytest.approx(
        dropped / (16 + 16 + 4) / 2
    )
    assert not losses
    total, logged = model.parse_losses(model(image, [], mode="loss"))
    assert "dropped_tokens" in logged
    assert total == logged["loss_own"] + logged["loss_balance"]


@pytest.mark.parametrize(
    "mode",
    [
        dict(memory="recompute"),
        dict(coupling="dual"),
        dict(coupling="dual", memory="reverse"),
    ],
    ids=str,
)
def test_memory_modes_have_the_same_gradients_of_both_losses(mode):
    image = torch.randn(2, 3, 64, 64)

    def gradients(**mode):
        model = build(dict(SPARSE, **mode), weight=3.0)
        torch.manual_seed(1)
        losses = model(image, [], mode="loss")
        (losses["loss_own"] + losses["loss_balance"]).backward()
        found = {name: p.grad for name, p in model.named_parameters()}
        return found | {name: value.detach() for name, value in losses.items()}

    expected = gradients()
    routers = [name for name in expected if "router" in name]
    assert len(routers) == 3 and all(expected[name].any() for name in routers)
    for name, gradient in gradients(**mode).items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=0)


def test_a_model_without_experts():
    with pytest.raises(
        ValueError, match=r"expected a model with experts.*got Small wi"
    ):
        build(SWIN)
