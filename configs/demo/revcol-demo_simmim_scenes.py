"""RevCol-demo, pretrained by SimMIM on the images of the training scenes.

Run: python tools/train.py configs/demo/revcol-demo_simmim_scenes.py
Hardware: 2 CPU cores. Expected: not run at this length.
"""

_base_ = [
    "../_base_/pretraining/simmim_demo_scenes.py",
    "../_base_/backbones/revcol-demo.py",
]

model = dict(
    backbone=dict(backbone=dict(out_indices=(3,), **_base_.backbone)),
    neck=dict(in_channels=_base_.channels[-1]),
)
