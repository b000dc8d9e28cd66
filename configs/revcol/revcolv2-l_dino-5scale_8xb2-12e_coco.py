r"""RevColV2-L, DINO on five scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcolv2-l_dino-5scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-5scale_12e_coco.py",
    "../_base_/backbones/revcolv2-l.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.5, **_base_.backbone),
    neck=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
