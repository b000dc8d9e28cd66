r"""RevCol-H, UPerNet, 160k steps of ADE20K in fp16, crop 640.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-h_upernet_16xb1-amp-160k_ade20k-640x640.py
Hardware: 16 GPUs, 1 image each. Expected: 57.8 mIoU, 58.0 with multi-scale and flip
(published, arXiv 2212.11696; not run here).
"""

_base_ = [
    "../_base_/segmentors/upernet_160k_ade20k-640x640.py",
    "../_base_/backbones/revcol-h.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.3, kernel_size=7, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels, channels=1440),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
optim_wrapper = dict(optimizer=dict(lr=4e-05), paramwise_cfg=dict(decay_rate=0.9))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=3000),
    dict(_base_.param_scheduler[1], begin=3000),
]
train_dataloader = dict(batch_size=1)
