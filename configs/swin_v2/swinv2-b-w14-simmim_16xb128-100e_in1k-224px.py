r"""Swin-V2-B of SimMIM, window 12, 100 epochs of ImageNet-1k with window 14.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-b-w14-simmim_16xb128-100e_in1k-224px.py
Hardware: 16 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/swinv2_100e.py",
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "../_base_/backbones/swinv2-b-in22k.py",
]

weights = "work_dirs/swinv2-b_simmim_8xb256-amp-800e_in1k-192x192/epoch_800.pth"
start = dict(type="Pretrained", checkpoint=weights)
backbone = dict(window_size=14, drop_path_rate=0.1, init_cfg=start)
model = dict(
    backbone=dict(_base_.backbone, _delete_=True, out_indices=(3,), **backbone),
    head=dict(in_channels=_base_.channels[-1]),
)
train_dataloader = dict(batch_size=128)
