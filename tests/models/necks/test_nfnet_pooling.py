"""The classifier's input."""

import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from timm.models.nfnet import NormFreeNet, _dm_nfnet_cfg
from tolerances import assert_close

from mmrev.models.necks import NFNetPooling
from mmrev.registry import MODELS


def test_equals_timm():
    torch.manual_seed(0)
    cfg = _dm_nfnet_cfg(depths=(1, 1, 1, 1), channels=(256, 256, 256, 256))
    reference = NormFreeNet(cfg, num_classes=0).eval()
    neck = NFNetPooling(256, flavour="timm").eval()
    neck.init_weights()
    state = {k.removeprefix("conv."): v for k, v in neck.state_dict().items()}
    state["gain"] = state["gain"].view(-1, 1, 1, 1)
    reference.final_conv.load_state_dict(state)
    level = torch.randn(2, 256, 3, 5)
    expected = reference.final_act(reference.final_conv(level)).mean((2, 3))
    (pooled,) = neck((torch.randn(2, 8, 6, 6), level))
    assert_close(pooled, expected)
    assert pooled.var().item() > 0


def test_dropout_is_for_training():
    neck = NFNetPooling(32, dropout_rate=0.5)
    levels = (torch.randn(2, 32, 4, 4),)
    zeros = (neck.train()(levels)[0] == 0).float().mean().item()
    assert 0.2 < zeros < 0.8
    assert not (neck.eval()(levels)[0] == 0).any()


# google-deepmind/deepmind-research @f5de0ed and arXiv 2102.06171, table 6: all
# parameters of the classifiers, in millions.
@pytest.mark.parametrize(
    ("arch", "millions"),
    [("F0", 71.5), ("F1", 132.6), ("F2", 193.8), ("F3", 254.9), ("F4", 316.1)]
    + [("F5", 377.2), ("F6", 438.4)],
)
def test_parameters_of_the_classifier(arch, millions):
    with torch.device("meta"):
        backbone = MODELS.build({"type": "mmrev.NFNet", "arch": arch})
        neck = NFNetPooling(backbone.channels[-1])
        head = ROOT_MODELS.build(
            {
                "type": "mmpretrain.LinearClsHead",
                "num_classes": 1000,
                "in_channels": 2 * backbone.channels[-1],
            }
        )
    parts = (backbone, neck, head)
    count = sum(p.numel() for part in parts for p in part.parameters())
    assert round(count / 1e6, 1) == millions
