"""NFNet 48 channels wide, one of six sizes whose loss is fitted against compute.

Run: python tools/train.py configs/demo/nfnet-w48-demo_scaling-crops.py
Hardware: 2 CPU cores. Expected: a point of the law in docs/pretraining.md.
"""

_base_ = ["../_base_/classifiers/scaling_crops.py"]

channels = [48, 96, 192, 384]
model = dict(
    backbone=dict(
        type="mmrev.NFNet",
        arch=dict(channels=channels, depths=[1, 2, 2, 1], group_width=24),
        skip_gain_init_value=1.0,
        out_indices=(3,),
    ),
    head=dict(in_channels=channels[-1]),
)
