"""The classifier's input."""

import torch
from timm.models.nfnet import NormFreeNet, _dm_nfnet_cfg
from tolerances import assert_close

from mmrev.models.necks import NFNetPooling


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
