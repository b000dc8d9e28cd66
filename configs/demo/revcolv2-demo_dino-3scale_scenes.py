r"""RevColV2-demo under DINO on the embedded scenes, its decoder included.

Run: python tools/train.py configs/demo/revcolv2-demo_dino-3scale_scenes.py
Its backbone starts from the masked pretraining, which `tools/demo.py` runs before.
Hardware: 2 CPU cores. Expected: AP50 0.163.
"""

_base_ = [
    "../_base_/detectors/dino-3scale_demo_scenes.py",
    "../_base_/backbones/revcolv2-demo.py",
]

pretrained = "work_dirs/demo-revcolv2/mim/iter_400.pth"
model = dict(
    backbone=dict(
        _delete_=True,
        out_indices=(1, 2, 3),
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
        **_base_.backbone,
    ),
    neck=dict(in_channels=_base_.channels[1:]),
)
expected_results = dict(metric="coco/bbox_mAP_50", value=0.163, tolerance=0.08)
