r"""Swin-V2-G in reverse mode, DINO on five scales, 12 epochs of COCO.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-g-reverse_dino-5scale_16xb1-12e_coco.py
Hardware: 16 GPUs, 1 image each. Expected: not run.
"""

_base_ = ["swinv2-g_dino-5scale_16xb1-12e_coco.py", "../_base_/schedules/coupling.py"]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=44_000)]
