r"""NFNet-F1 in reverse mode, Mask2Former, 50 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f1-reverse_mask2former_8xb2-lsj-50e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "nfnet-f1_mask2former_8xb2-lsj-50e_coco.py",
    "../_base_/schedules/coupling.py",
]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=184_000)]
