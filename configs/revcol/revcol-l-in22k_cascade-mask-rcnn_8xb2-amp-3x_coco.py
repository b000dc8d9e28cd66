r"""RevCol-L (22k), Cascade Mask R-CNN, 36 epochs of COCO in fp16.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-l-in22k_cascade-mask-rcnn_8xb2-amp-3x_coco.py
Hardware: 8 GPUs, 2 images each. Expected: 55.9 box AP, 48.4 mask AP
(published, arXiv 2212.11696; not run here).
"""

_base_ = [
    "../_base_/detectors/cascade-mask-rcnn_3x_coco.py",
    "../_base_/backbones/revcol-l-in22k.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.5, **_base_.backbone),
    neck=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(optimizer=dict(lr=0.0001), paramwise_cfg=dict(decay_rate=0.85))
