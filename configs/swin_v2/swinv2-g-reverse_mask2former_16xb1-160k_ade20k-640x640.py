r"""Swin-V2-G in reverse mode, Mask2Former, 160k steps of ADE20K, crop 640.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-g-reverse_mask2former_16xb1-160k_ade20k-640x640.py
Hardware: 16 GPUs, 1 image each. Expected: not run.
"""

_base_ = [
    "swinv2-g_mask2former_16xb1-160k_ade20k-640x640.py",
    "../_base_/schedules/coupling.py",
]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=80_000)]
