"""The first of VanillaNet's two classifiers."""

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close

from mmrev.models.layers import FadedReLU
from mmrev.models.necks import VanillaNetPooling


@pytest.mark.parametrize("learnt", [0.0, 0.3, 1.0])
def test_equals_the_reference(learnt):
    """huawei-noah/VanillaNet @6aaf731, VanillaNet.forward: cls1, leaky_relu, cls2."""
    torch.manual_seed(0)
    neck = VanillaNetPooling(8, 5, dropout_rate=0.5)
    neck.init_weights()
    linear, norm, faded = neck.classify
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    assert isinstance(faded, FadedReLU)
    faded.fade.fill_(1 - learnt)
    level = torch.randn(2, 8, 3, 5)
    (out,) = neck.eval()((torch.randn(2, 4, 6, 6), level))
    pooled = F.adaptive_avg_pool2d(level, 1)
    first = F.conv2d(pooled, linear.weight[:, :, None, None], linear.bias)
    arguments = norm.running_mean, norm.running_var, norm.weight, norm.bias
    first = F.batch_norm(first, *arguments, eps=1e-6)
    assert_close(out, F.leaky_relu(first, learnt).flatten(1))
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.3)


def test_dropout_is_for_training():
    neck = VanillaNetPooling(8, 5, dropout_rate=0.5)
    levels = (torch.randn(4, 8, 3, 3),)
    assert not torch.equal(neck(levels)[0], neck(levels)[0])
    neck.eval()
    assert torch.equal(neck(levels)[0], neck(levels)[0])
