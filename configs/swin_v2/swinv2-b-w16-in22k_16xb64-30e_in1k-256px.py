r"""Swin-V2-B of ImageNet-22k, window 12, 30 epochs of ImageNet-1k with window 16.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-b-w16-in22k_16xb64-30e_in1k-256px.py
Hardware: 16 GPUs, 64 images of 256 px each. Expected: 86.2 top-1
(published, arXiv 2111.09883; not run here).
"""

_base_ = [
    "../_base_/classifiers/swinv2_30e.py",
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_256.py",
    "../_base_/backbones/swinv2-b-in22k.py",
]

weights = "data/pretrained/swinv2_base_patch4_window12_192_22k.pth"
start = dict(type="Pretrained", checkpoint=weights)
backbone = dict(window_size=16, drop_path_rate=0.2, init_cfg=start)
model = dict(
    backbone=dict(_base_.backbone, _delete_=True, out_indices=(3,), **backbone),
    head=dict(in_channels=_base_.channels[-1]),
)
