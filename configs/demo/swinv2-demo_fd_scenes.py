"""Swin-V2-demo, pretrained on the training scenes by the features of NFNet-large-demo.

Run: python tools/train.py configs/demo/swinv2-demo_fd_scenes.py
The teacher is trained before: configs/demo/nfnet-large-demo_crops.py, with --work-dir
work_dirs/demo-nfnet-large/crops.
Hardware: 2 CPU cores. Expected: not run at this length.
"""

_base_ = [
    "../_base_/pretraining/fd_demo_scenes.py",
    "../_base_/backbones/swinv2-demo.py",
]

model = dict(
    model=dict(backbone=dict(out_indices=(1, 2, 3), **_base_.backbone)),
    in_channels=_base_.channels[1:],
)
