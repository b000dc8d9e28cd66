r"""Swin-V2-demo or a variant of it on a quarter of the demo's crops.

Run: see ../README.md. Expected: its table.
"""

_base_ = "../../../configs/demo/swinv2-demo_crops.py"

custom_imports = dict(imports=["variants"])
model = dict(backbone=dict(type="mmrev.SwinVariant"))
train_dataloader = dict(batch_size=64)
max_iters = 200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
rising, falling = _base_.param_scheduler
falling = dict(falling, end=max_iters, T_max=max_iters - falling.begin)
param_scheduler = [rising, falling]
