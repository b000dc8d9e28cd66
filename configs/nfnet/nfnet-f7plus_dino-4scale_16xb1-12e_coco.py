r"""NFNet-F7+, DINO on four scales, 12 epochs of COCO.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f7plus_dino-4scale_16xb1-12e_coco.py
Hardware: 16 GPUs, 1 image each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-4scale_12e_coco.py",
    "../_base_/backbones/nfnet-f7plus.py",
]

model = dict(
    backbone=dict(
        _delete_=True, out_indices=(1, 2, 3), drop_path_rate=0.25, **_base_.backbone
    ),
    neck=dict(in_channels=_base_.channels[1:]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.985))
train_dataloader = dict(batch_size=1)
