r"""Swin-V2-demo under DINO on the embedded scenes.

Run: python tools/train.py configs/demo/swinv2-demo_dino-3scale_scenes.py
Its backbone starts from the classifier of digits, swinv2-demo_crops.py.
Hardware: 2 CPU cores. Expected: AP50 0.484.
"""

_base_ = [
    "../_base_/detectors/dino-3scale_demo_scenes.py",
    "../_base_/backbones/swinv2-demo.py",
]

pretrained = "work_dirs/demo-swinv2/crops/iter_400.pth"
model = dict(
    backbone=dict(
        _delete_=True,
        out_indices=(1, 2, 3),
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
        **_base_.backbone,
    ),
    neck=dict(in_channels=_base_.channels[1:]),
)
