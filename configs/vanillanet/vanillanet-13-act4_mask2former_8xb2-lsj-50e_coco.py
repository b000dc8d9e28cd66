r"""VanillaNet-13, Mask2Former, 50 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/vanillanet/vanillanet-13-act4_mask2former_8xb2-lsj-50e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/mask2former_50e_coco.py",
    "../_base_/backbones/vanillanet-13-act4.py",
]

sync_bn = "torch"
model = dict(
    backbone=dict(_delete_=True, **_base_.backbone),
    panoptic_head=dict(in_channels=_base_.channels),
)
