r"""Swin-V2-demo under Mask2Former on the embedded scenes.

Run: python tools/train.py configs/demo/swinv2-demo_mask2former_scenes.py
Its backbone starts from the detector's, swinv2-demo_dino-3scale_scenes.py.
Hardware: 2 CPU cores. Expected: mIoU 40.49.
"""

_base_ = [
    "../_base_/segmentors/mask2former_demo_scenes.py",
    "../_base_/backbones/swinv2-demo.py",
]

pretrained = "work_dirs/demo-swinv2/dino/epoch_4.pth"
model = dict(
    backbone=dict(
        _delete_=True,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
        **_base_.backbone,
    ),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
