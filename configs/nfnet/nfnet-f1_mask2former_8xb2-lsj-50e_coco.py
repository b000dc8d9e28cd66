r"""NFNet-F1, Mask2Former, 50 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f1_mask2former_8xb2-lsj-50e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/mask2former_50e_coco.py",
    "../_base_/backbones/nfnet-f1.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.25, **_base_.backbone),
    panoptic_head=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.95))
