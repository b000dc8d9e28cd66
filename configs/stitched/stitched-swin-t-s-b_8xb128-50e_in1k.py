r"""Swin-T, S and B stitched, 50 epochs of ImageNet-1k, the recipe of SN-Net.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/stitched/stitched-swin-t-s-b_8xb128-50e_in1k.py
Hardware: 8 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/stitched_50e_in1k.py",
    "../_base_/backbones/stitched-swin-t-s-b.py",
]

backbone = dict(_base_.backbone, out_indices=(3,))
model = dict(model=dict(backbone=backbone, head=dict(in_channels=1024)))
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(custom_keys=_base_.stitch_keys),
)
