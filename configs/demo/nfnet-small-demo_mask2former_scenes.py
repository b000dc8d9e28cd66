r"""NFNet-small-demo under Mask2Former on the embedded scenes.

Run: python tools/train.py configs/demo/nfnet-small-demo_mask2former_scenes.py
Its backbone starts from the detector's, nfnet-small-demo_dino-3scale_scenes.py.
Hardware: 2 CPU cores. Expected: mIoU 82.19.
"""

_base_ = [
    "../_base_/segmentors/mask2former_demo_scenes.py",
    "../_base_/backbones/nfnet-small-demo.py",
]

pretrained = "work_dirs/demo-nfnet-small/dino/epoch_4.pth"
model = dict(
    backbone=dict(
        _delete_=True,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
        **_base_.backbone,
    ),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
expected_results = dict(metric="mIoU", value=82.19, tolerance=2.5)
