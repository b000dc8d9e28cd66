r"""Swin-V2-T, DINO on four scales, 12 epochs of Objects365 v2 (stage 1 of 2).

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-t_dino-4scale_8xb2-12e_objects365.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-4scale_12e_objects365.py",
    "../_base_/backbones/swinv2-t.py",
]

model = dict(
    backbone=dict(
        _delete_=True, out_indices=(1, 2, 3), drop_path_rate=0.2, **_base_.backbone
    ),
    neck=dict(in_channels=_base_.channels[1:]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
