r"""Swin-V2-L (22k), UPerNet, 40k steps of ADE20K in fp16, crop 640, window 40.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-l-in22k_upernet_8xb8-amp-40k_ade20k-640x640.py
Hardware: 8 GPUs, 8 images each. Expected: 55.9 mIoU with multi-scale and
flip (published, arXiv 2111.09883; not run here).
"""

_base_ = [
    "../_base_/segmentors/upernet_40k_ade20k-640x640.py",
    "../_base_/backbones/swinv2-l-in22k.py",
]

backbone = dict(_base_.backbone, window_size=40, drop_path_rate=0.3)
model = dict(
    backbone=dict(_delete_=True, **backbone),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.95))
train_dataloader = dict(batch_size=8)
