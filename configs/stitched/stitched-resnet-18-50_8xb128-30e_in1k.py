r"""ResNet-18 and 50 stitched, 30 epochs of ImageNet-1k, the recipe of SN-Net.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/stitched/stitched-resnet-18-50_8xb128-30e_in1k.py
Hardware: 8 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/stitched_30e_in1k.py",
    "../_base_/backbones/stitched-resnet-18-50.py",
]

backbone = dict(_base_.backbone, out_indices=(3,))
model = dict(model=dict(backbone=backbone, head=dict(in_channels=2048)))
