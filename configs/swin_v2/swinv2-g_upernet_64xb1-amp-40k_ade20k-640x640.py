r"""Swin-V2-G, UPerNet, 40k steps of ADE20K in fp16, crop 640, window 40.

Run: torchrun --nnodes 8 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-g_upernet_64xb1-amp-40k_ade20k-640x640.py
Hardware: 64 GPUs, 1 image each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/upernet_40k_ade20k-640x640.py",
    "../_base_/backbones/swinv2-g.py",
]

backbone = dict(_base_.backbone, window_size=40, drop_path_rate=0.5)
model = dict(
    backbone=dict(_delete_=True, **backbone),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.975))
train_dataloader = dict(batch_size=1)
