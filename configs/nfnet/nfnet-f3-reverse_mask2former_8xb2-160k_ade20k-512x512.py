r"""NFNet-F3 in reverse mode, Mask2Former, 160k steps of ADE20K, crop 512.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f3-reverse_mask2former_8xb2-160k_ade20k-512x512.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "nfnet-f3_mask2former_8xb2-160k_ade20k-512x512.py",
    "../_base_/schedules/coupling.py",
]

model = dict(backbone=_base_.coupled)
custom_hooks = [dict(**_base_.coupling, end=80_000)]
