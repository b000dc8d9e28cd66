r"""RevColV2-demo under Mask2Former on the embedded scenes, its decoder included.

Run: python tools/train.py configs/demo/revcolv2-demo_mask2former_scenes.py
Its backbone starts from the detector's, which `tools/demo.py` trains before.
Hardware: 2 CPU cores. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/mask2former_demo_scenes.py",
    "../_base_/backbones/revcolv2-demo.py",
]

pretrained = "work_dirs/demo-revcolv2/dino/epoch_4.pth"
model = dict(
    backbone=dict(
        _delete_=True,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
        **_base_.backbone,
    ),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
