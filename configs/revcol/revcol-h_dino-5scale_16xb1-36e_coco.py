r"""RevCol-H, DINO on five scales, 36 epochs of COCO.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-h_dino-5scale_16xb1-36e_coco.py
Hardware: 16 GPUs, 1 image each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-5scale_36e_coco.py",
    "../_base_/backbones/revcol-h.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.5, **_base_.backbone),
    neck=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
train_dataloader = dict(batch_size=1)
