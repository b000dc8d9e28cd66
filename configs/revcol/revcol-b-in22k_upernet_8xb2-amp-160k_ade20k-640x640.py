r"""RevCol-B (22k), UPerNet, 160k steps of ADE20K in fp16, crop 640.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b-in22k_upernet_8xb2-amp-160k_ade20k-640x640.py
Hardware: 8 GPUs, 2 images each. Expected: 52.7 mIoU, 53.3 with multi-scale and flip
(published, arXiv 2212.11696; not run here).
"""

_base_ = [
    "../_base_/segmentors/upernet_160k_ade20k-640x640.py",
    "../_base_/backbones/revcol-b-in22k.py",
]

model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.3, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
optim_wrapper = dict(optimizer=dict(lr=4e-05), paramwise_cfg=dict(decay_rate=0.9))
