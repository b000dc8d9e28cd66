"""Swin-V2-demo, pretrained by SimMIM on the images of the training scenes.

Run: python tools/train.py configs/demo/swinv2-demo_simmim_scenes.py
Hardware: 2 CPU cores. Expected: not run at this length.
"""

_base_ = [
    "../_base_/pretraining/simmim_demo_scenes.py",
    "../_base_/backbones/swinv2-demo.py",
]

model = dict(
    backbone=dict(backbone=dict(out_indices=(3,), **_base_.backbone)),
    neck=dict(in_channels=_base_.channels[-1]),
)
