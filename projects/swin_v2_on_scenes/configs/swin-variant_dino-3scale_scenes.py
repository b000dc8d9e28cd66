r"""Swin-V2-demo or a variant under DINO, half of the demo's schedule.

Run: see ../README.md. Expected: its table.
"""

_base_ = "../../../configs/demo/swinv2-demo_dino-3scale_scenes.py"

custom_imports = dict(imports=["variants"])
pretrained = "work_dirs/swin-variant_crops/iter_200.pth"
model = dict(
    backbone=dict(type="mmrev.SwinVariant", init_cfg=dict(checkpoint=pretrained))
)
max_epochs = 2
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
rising, falling = _base_.param_scheduler
param_scheduler = [rising, dict(falling, end=max_epochs, T_max=max_epochs)]
