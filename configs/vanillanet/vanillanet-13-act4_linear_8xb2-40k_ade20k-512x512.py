r"""VanillaNet-13, frozen, under BatchNorm and 1x1, 40k steps of ADE20K, crop 512.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/vanillanet/vanillanet-13-act4_linear_8xb2-40k_ade20k-512x512.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/linear_40k_ade20k-512x512.py",
    "../_base_/backbones/vanillanet-13-act4.py",
]

model = dict(backbone=_base_.backbone, decode_head=dict(in_channels=_base_.channels))
