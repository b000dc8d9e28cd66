r"""Swin-V2-B (22k) in reverse mode, Mask2Former, 160k steps of ADE20K, crop 640.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-b-in22k-reverse_mask2former_8xb2-160k_ade20k-640x640.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "swinv2-b-in22k_mask2former_8xb2-160k_ade20k-640x640.py",
    "../_base_/schedules/coupling.py",
]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=80_000)]
