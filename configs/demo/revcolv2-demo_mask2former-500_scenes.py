r"""RevColV2-demo under Mask2Former on the embedded scenes, its decoder included.

Run: python tools/train.py configs/demo/revcolv2-demo_mask2former-500_scenes.py
Its backbone starts from the detector's. Hardware: 2 CPU cores. Expected: not run
to its end; mIoU 10.32 after 246 steps.
"""

_base_ = [
    "../_base_/segmentors/mask2former_demo_scenes.py",
    "../_base_/backbones/revcolv2-demo.py",
]

start = "work_dirs/demo-revcolv2/dino/epoch_4.pth"
init = dict(type="Pretrained", checkpoint=start)
model = dict(
    backbone=dict(_delete_=True, init_cfg=init, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
steps = 500
train_cfg = dict(max_iters=steps, val_interval=steps)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
    dict(type="PolyLR", power=0.9, by_epoch=False, begin=50, end=steps),
]
