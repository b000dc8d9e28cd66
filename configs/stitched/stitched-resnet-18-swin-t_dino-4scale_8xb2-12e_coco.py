r"""ResNet-18 and Swin-T stitched, DINO on four scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/stitched/stitched-resnet-18-swin-t_dino-4scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/stitched-dino-4scale_12e_coco.py",
    "../_base_/backbones/stitched-resnet-18-swin-t.py",
]

model = dict(
    backbone=dict(_delete_=True, out_indices=(1, 2, 3), **_base_.backbone),
    neck=dict(in_channels=_base_.channels[1:]),
)
