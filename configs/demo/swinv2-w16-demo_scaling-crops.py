"""Swin-V2 16 channels wide, one of six sizes whose loss is fitted against compute.

Run: python tools/train.py configs/demo/swinv2-w16-demo_scaling-crops.py
Hardware: 2 CPU cores. Expected: a point of the law in docs/pretraining.md.
"""

_base_ = ["../_base_/classifiers/scaling_crops.py"]

model = dict(
    backbone=dict(
        type="mmrev.SwinTransformerV2",
        arch=dict(embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8]),
        window_size=6,
        out_indices=(3,),
        out_norm="layer_norm",
    ),
    head=dict(in_channels=128),
)
