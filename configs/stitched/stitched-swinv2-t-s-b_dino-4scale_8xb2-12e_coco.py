r"""Swin-V2-T, S and B stitched, DINO on four scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/stitched/stitched-swinv2-t-s-b_dino-4scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/stitched-dino-4scale_12e_coco.py",
    "../_base_/backbones/stitched-swinv2-t-s-b.py",
]

model = dict(
    backbone=dict(_delete_=True, out_indices=(1, 2, 3), **_base_.backbone),
    neck=dict(in_channels=_base_.channels[1:]),
)
