r"""SwinV2-MoE-S of 32 experts, Mask2Former, 160k steps of ADE20K, crop 512.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-s-moe32_mask2former_8xb2-160k_ade20k-512x512.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/mask2former_160k_ade20k-512x512.py",
    "../_base_/backbones/swinv2-s-moe32.py",
]

backbone = dict(_base_.backbone, drop_path_rate=0.3)
head = dict(_base_.model.decode_head, in_channels=_base_.channels)
segmentor = dict(_base_.model, backbone=backbone, decode_head=head)
model = dict(_delete_=True, type="mmrev.BalancedExperts", model=segmentor)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.95))
