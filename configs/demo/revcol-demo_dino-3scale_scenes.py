r"""RevCol-demo under DINO on the embedded scenes; `make demo` runs it.

Run: python tools/train.py configs/demo/revcol-demo_dino-3scale_scenes.py
Its backbone starts from the classifier of digits, which `make demo` trains before.
Hardware: 2 CPU cores. Expected: AP50 0.581.
"""

_base_ = [
    "../_base_/detectors/dino-3scale_demo_scenes.py",
    "../_base_/backbones/revcol-demo.py",
]

pretrained = "work_dirs/demo-revcol/crops/iter_400.pth"
model = dict(
    backbone=dict(
        _delete_=True,
        out_indices=(1, 2, 3),
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
        **_base_.backbone,
    ),
    neck=dict(in_channels=_base_.channels[1:]),
)
expected_results = dict(metric="coco/bbox_mAP_50", value=0.581, tolerance=0.1)
