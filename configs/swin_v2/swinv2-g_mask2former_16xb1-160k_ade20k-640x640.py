r"""Swin-V2-G, Mask2Former, 160k steps of ADE20K, crop 640.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-g_mask2former_16xb1-160k_ade20k-640x640.py
Hardware: 16 GPUs, 1 image each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/mask2former_160k_ade20k-640x640.py",
    "../_base_/backbones/swinv2-g.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.5, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.975))
train_dataloader = dict(batch_size=1)
