r"""RevCol-T, Cascade Mask R-CNN, 36 epochs of COCO in fp16.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-t_cascade-mask-rcnn_8xb2-amp-3x_coco.py
Hardware: 8 GPUs, 2 images each. Expected: 50.8 box AP, 44.0 mask AP
(published, arXiv 2212.11696; not run here).
"""

_base_ = [
    "../_base_/detectors/cascade-mask-rcnn_3x_coco.py",
    "../_base_/backbones/revcol-t.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.3, **_base_.backbone),
    neck=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(optimizer=dict(lr=0.0002), paramwise_cfg=dict(decay_rate=0.85))
