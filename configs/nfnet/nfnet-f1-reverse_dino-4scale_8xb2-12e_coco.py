r"""NFNet-F1 in reverse mode, DINO on four scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f1-reverse_dino-4scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = ["nfnet-f1_dino-4scale_8xb2-12e_coco.py", "../_base_/schedules/coupling.py"]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=44_000)]
