r"""ReduceNet-50, Mask2Former, 50 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/reducenet/reducenet-50_mask2former_8xb2-lsj-50e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/mask2former_50e_coco.py",
    "../_base_/backbones/reducenet-50.py",
]

sync_bn = "torch"
model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.2, **_base_.backbone),
    panoptic_head=dict(in_channels=_base_.channels),
)
