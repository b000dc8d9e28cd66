r"""RevCol-demo, frozen, under BatchNorm and 1x1 on the embedded scenes.

Run: python tools/train.py configs/demo/revcol-demo_linear_scenes.py
Its backbone is the classifier of digits, revcol-demo_crops.py.
Hardware: 2 CPU cores. Expected: mIoU 21.15.
"""

_base_ = [
    "../_base_/segmentors/linear_demo_scenes.py",
    "../_base_/backbones/revcol-demo.py",
]

pretrained = "work_dirs/demo-revcol/crops/iter_400.pth"
model = dict(
    backbone=dict(
        init_cfg=dict(type="Pretrained", checkpoint=pretrained), **_base_.backbone
    ),
    decode_head=dict(in_channels=_base_.channels),
)
