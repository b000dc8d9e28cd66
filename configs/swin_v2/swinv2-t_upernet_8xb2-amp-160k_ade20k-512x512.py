r"""Swin-V2-T, UPerNet, 160k steps of ADE20K in fp16, crop 512, window 16.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-t_upernet_8xb2-amp-160k_ade20k-512x512.py
Hardware: 8 GPUs, 2 images each. Expected: 47.0 mIoU
(published, arXiv 2111.09883; not run here).
"""

_base_ = [
    "../_base_/segmentors/upernet_160k_ade20k-512x512.py",
    "../_base_/backbones/swinv2-t.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.3, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
optim_wrapper = dict(
    optimizer=dict(lr=4e-05, weight_decay=0.05), paramwise_cfg=dict(decay_rate=0.95)
)
