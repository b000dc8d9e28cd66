r"""Swin-V2-L with window 12, 90 epochs of ImageNet-22k at 192 px.

Run: torchrun --nnodes 4 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-l-w12_32xb128-90e_in22k-192px.py
Hardware: 32 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/swinv2_90e.py",
    "../_base_/datasets/imagenet_22k_192.py",
    "../_base_/backbones/swinv2-l-in22k.py",
]

windows = dict(window_size=(12, 12, 12, 6), pretrained_window_sizes=0)
backbone = dict(_base_.backbone, **windows, drop_path_rate=0.2, init_cfg=None)
model = dict(
    backbone=dict(backbone, _delete_=True, out_indices=(3,)),
    head=dict(in_channels=_base_.channels[-1]),
)
