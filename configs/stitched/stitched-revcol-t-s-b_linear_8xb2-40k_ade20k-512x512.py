r"""RevCol-T, S, B stitched, frozen, BatchNorm and 1x1, 40k steps of ADE20K, crop 512.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/stitched/stitched-revcol-t-s-b_linear_8xb2-40k_ade20k-512x512.py
Stitches stay as least squares have them; the head sees another one in every step.
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/linear_40k_ade20k-512x512.py",
    "../_base_/stitching.py",
    "../_base_/backbones/stitched-revcol-t-s-b.py",
]

model = dict(
    backbone=_base_.backbone,
    decode_head=dict(in_channels=_base_.channels),
)
custom_hooks = _base_.stitch_hooks
test_cfg = dict(_delete_=True, **_base_.stitch_test)
