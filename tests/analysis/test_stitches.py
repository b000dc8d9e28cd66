"""Parameters and operations of stitches, beside those of SN-Net's own tables.

From ziplab/SN-Net, stitching_*/results/stitches_res*.txt, whose classifiers are counted
here, too: each anchor's own, of 1000 classes.
"""

import pytest
import torch

from mmrev.analysis.flops import count_flops
from mmrev.analysis.stitches import count_stitch_params
from mmrev.models.stitching import StitchedBackbone

SWIN = [
    dict(type="mmpretrain.SwinTransformer", arch=arch)
    for arch in ("tiny", "small", "base")
]
DEIT = [
    dict(type="mmpretrain.VisionTransformer", arch=f"deit-{arch}", out_type="featmap")
    for arch in ("tiny", "small", "base")
]
RESNETS = [
    dict(type="mmpretrain.ResNet", depth=depth, out_indices=(0, 1, 2, 3))
    for depth in (18, 50)
]
SETS = {
    "swin": dict(anchors=SWIN, routes=dict(stages=(0, 1, 2), monotone=True)),
    "deit": dict(anchors=DEIT, routes=dict(stages=(0,))),
    "resnet": dict(anchors=RESNETS, routes=dict(stages=(1, 2), monotone=True)),
    "resnet and swin": dict(
        anchors=[RESNETS[0], SWIN[0]], routes=dict(stages=(1, 2), monotone=True)
    ),
}
WIDTHS = {
    "swin": (768, 768, 1024),
    "deit": (192, 384, 768),
    "resnet": (512, 2048),
    "resnet and swin": (512, 768),
}


@pytest.fixture(scope="module")
def models():
    models = {}
    for name, settings in SETS.items():
        last = 0 if name == "deit" else 3
        model = StitchedBackbone(**settings, out_indices=(last,))
        models[name] = model.eval().to("meta")
    return models


def classifier(name, anchor):
    return (WIDTHS[name][anchor] + 1) * 1000


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("swin", 170_009_108),
        ("deit", 118_403_448),
        ("resnet", 37_904_976),
        ("resnet and swin", 40_200_010),
    ],
)
def test_total_params_equal_the_references(models, name, total):
    model = models[name]
    adapters = sum(p.numel() for p in model.adapters.parameters())
    counted = sum(p.numel() for p in model.parameters()) - adapters
    heads = sum(classifier(name, anchor) for anchor in range(len(model.anchors)))
    assert counted + heads == total


@pytest.mark.parametrize(
    ("name", "stitch", "params"),
    [
        ("deit", 0, 5_717_416),
        ("deit", 2, 86_567_656),
        ("deit", 3, 22_345_960),
        ("deit", 24, 13_038_760),
        ("deit", 70, 29_742_952),
        ("swin", 3, 49_615_570),
        ("swin", 5, 49_568_818),
        ("swin", 7, 49_383_154),
        ("swin", 40, 63_005_478),
    ],
)
def test_params_equal_the_references(models, name, stitch, params):
    model = models[name]
    head = classifier(name, model.routes[stitch].anchors[-1])
    counted = count_stitch_params(model, stitch, as_reference=True)
    assert counted + head == params
    assert count_stitch_params(model, stitch) >= counted


@pytest.mark.parametrize(
    ("name", "stitch", "flops"),
    [
        ("deit", 3, 4_696_010_496),
        ("deit", 24, 2_758_967_808),
        ("deit", 70, 6_121_909_248),
        ("swin", 3, 8_797_436_160),
        ("swin", 40, 9_667_129_344),
        ("resnet", 9, 2_490_225_664),
        ("resnet and swin", 7, 2_542_345_472),
    ],
)
def test_flops_agree_with_the_references(models, name, stitch, flops):
    """Within 2 %: norms and softmaxes are counted here and there by other rules."""
    model = models[name]
    model.set_stitch(stitch)
    image = torch.empty(1, 3, 224, 224, device="meta")
    counted = count_flops(lambda: model(image))
    assert counted == pytest.approx(flops, rel=0.02)
