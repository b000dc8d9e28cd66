r"""Swin-V2-L (22k) in reverse mode, DINO on five scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-l-in22k-reverse_dino-5scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "swinv2-l-in22k_dino-5scale_8xb2-12e_coco.py",
    "../_base_/schedules/coupling.py",
]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=44_000)]
