r"""RevCol-demo under Mask2Former on the embedded scenes; `make demo` runs it.

Run: python tools/train.py configs/demo/revcol-demo_mask2former_scenes.py
Its backbone starts from the detector's, which `make demo` trains before.
Hardware: 2 CPU cores. Expected: mIoU 66.02.
"""

_base_ = [
    "../_base_/segmentors/mask2former_demo_scenes.py",
    "../_base_/backbones/revcol-demo.py",
]

pretrained = "work_dirs/demo-revcol/dino/epoch_4.pth"
model = dict(
    backbone=dict(
        _delete_=True,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
        **_base_.backbone,
    ),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
expected_results = dict(metric="mIoU", value=66.02, tolerance=6.0)
