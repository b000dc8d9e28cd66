r"""RevColV2-B, DINO on four scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcolv2-b_dino-4scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-4scale_12e_coco.py",
    "../_base_/backbones/revcolv2-b.py",
]

model = dict(
    backbone=dict(
        _delete_=True, out_indices=(1, 2, 3), drop_path_rate=0.3, **_base_.backbone
    ),
    neck=dict(in_channels=_base_.channels[1:]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
