r"""RevCol-B (22k), Cascade Mask R-CNN, 36 epochs of COCO in fp16.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b-in22k_cascade-mask-rcnn_8xb2-amp-3x_coco.py
Hardware: 8 GPUs, 2 images each. Expected: 55.0 box AP, 47.5 mask AP
(published, arXiv 2212.11696; not run here).
"""

_base_ = [
    "../_base_/detectors/cascade-mask-rcnn_3x_coco.py",
    "../_base_/backbones/revcol-b-in22k.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.4, **_base_.backbone),
    neck=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(optimizer=dict(lr=0.0001), paramwise_cfg=dict(decay_rate=0.9))
