"""As nfnet-demo_mask2former_scenes.py with half the steps, to compare with.

Run: python tools/train.py configs/demo/nfnet-half-demo_mask2former-500_scenes.py
Hardware: 2 CPU cores. Expected: mIoU 77.84.
"""

_base_ = ["./nfnet-demo_mask2former_scenes.py"]

pretrained = "work_dirs/demo-nfnet-half/dino/epoch_2.pth"
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
max_iters = 500
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
    dict(type="PolyLR", power=0.9, by_epoch=False, begin=50, end=max_iters),
]
