r"""Swin-V2-S with window 16, 300 epochs of ImageNet-1k at 256 px.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-s-w16_16xb64_in1k-256px.py
Hardware: 16 GPUs, 64 images each. Expected: 84.1 top-1
(published, arXiv 2111.09883; not run here).
"""

_base_ = [
    "../_base_/classifiers/swinv2_300e.py",
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_256.py",
    "../_base_/backbones/swinv2-s.py",
]

windows = dict(window_size=(16, 16, 16, 8), pretrained_window_sizes=0)
backbone = dict(_base_.backbone, **windows, drop_path_rate=0.3, init_cfg=None)
model = dict(
    backbone=dict(backbone, _delete_=True, out_indices=(3,)),
)
