r"""Swin-V2-demo in reverse mode, DINO on the embedded scenes.

Run: python tools/train.py configs/demo/swinv2-demo-reversible_dino-3scale_scenes.py
Steps and weights to start from are those of swinv2-demo_dino-3scale_scenes.py.
Hardware: 2 CPU cores. Expected: AP50 0.442.
"""

_base_ = ["swinv2-demo_dino-3scale_scenes.py", "../_base_/schedules/coupling.py"]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=500)]
