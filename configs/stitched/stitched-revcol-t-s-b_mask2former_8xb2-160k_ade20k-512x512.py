r"""RevCol-T, S and B stitched, Mask2Former, 160k steps of ADE20K, crop 512.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/stitched/stitched-revcol-t-s-b_mask2former_8xb2-160k_ade20k-512x512.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/stitched-mask2former_160k_ade20k-512x512.py",
    "../_base_/backbones/stitched-revcol-t-s-b.py",
]

model = dict(
    backbone=dict(_delete_=True, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels),
)
