r"""Swin-V2-demo, frozen, under BatchNorm and 1x1 on the embedded scenes.

Run: python tools/train.py configs/demo/swinv2-demo_linear_scenes.py
Its backbone is the classifier of digits, swinv2-demo_crops.py.
Hardware: 2 CPU cores. Expected: mIoU 19.15.
"""

_base_ = [
    "../_base_/segmentors/linear_demo_scenes.py",
    "../_base_/backbones/swinv2-demo.py",
]

pretrained = "work_dirs/demo-swinv2/crops/iter_400.pth"
model = dict(
    backbone=dict(
        init_cfg=dict(type="Pretrained", checkpoint=pretrained), **_base_.backbone
    ),
    decode_head=dict(in_channels=_base_.channels),
)
