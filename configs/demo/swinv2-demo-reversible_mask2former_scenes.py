r"""Swin-V2-demo in reverse mode, Mask2Former on the embedded scenes.

Run: python tools/train.py configs/demo/swinv2-demo-reversible_mask2former_scenes.py
Steps and weights to start from are those of swinv2-demo_mask2former_scenes.py.
Hardware: 2 CPU cores. Expected: mIoU 39.55.
"""

_base_ = ["swinv2-demo_mask2former_scenes.py", "../_base_/schedules/coupling.py"]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=500)]
