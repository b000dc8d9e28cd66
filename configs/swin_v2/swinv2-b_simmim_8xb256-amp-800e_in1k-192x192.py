r"""Swin-V2-B, 800 epochs of SimMIM on ImageNet-1k, window 12 at 192 px.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-b_simmim_8xb256-amp-800e_in1k-192x192.py
Hardware: 8 GPUs, 256 images each. Expected: not run.
"""

_base_ = [
    "../_base_/pretraining/simmim_800e_in1k-192x192.py",
    "../_base_/backbones/swinv2-b-in22k.py",
]

backbone = dict(
    _base_.backbone,
    window_size=(12, 12, 12, 6),
    pretrained_window_sizes=0,
    drop_path_rate=0.1,
    out_indices=(3,),
    init_cfg=None,
)
model = dict(
    backbone=dict(backbone=backbone), neck=dict(in_channels=_base_.channels[-1])
)
