r"""RevColV2-L, Mask2Former, 160k steps of ADE20K, crop 512.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcolv2-l_mask2former_8xb2-160k_ade20k-512x512.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/mask2former_160k_ade20k-512x512.py",
    "../_base_/backbones/revcolv2-l.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.3, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels),
)
