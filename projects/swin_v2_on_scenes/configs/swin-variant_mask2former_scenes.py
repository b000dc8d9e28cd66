r"""Swin-V2-demo or a variant under Mask2Former, half of the demo's schedule.

Run: see ../README.md. Expected: its table.
"""

_base_ = "../../../configs/demo/swinv2-demo_mask2former_scenes.py"

custom_imports = dict(imports=["variants"])
pretrained = "work_dirs/swin-variant_crops/iter_200.pth"
model = dict(
    backbone=dict(type="mmrev.SwinVariant", init_cfg=dict(checkpoint=pretrained))
)
max_iters = 500
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
rising, falling = _base_.param_scheduler
param_scheduler = [rising, dict(falling, end=max_iters)]
