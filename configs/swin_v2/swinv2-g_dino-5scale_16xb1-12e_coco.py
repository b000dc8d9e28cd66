r"""Swin-V2-G, DINO on five scales, 12 epochs of COCO.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-g_dino-5scale_16xb1-12e_coco.py
Hardware: 16 GPUs, 1 image each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-5scale_12e_coco.py",
    "../_base_/backbones/swinv2-g.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.5, **_base_.backbone),
    neck=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.975))
train_dataloader = dict(batch_size=1)
