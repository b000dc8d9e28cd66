r"""RevColV2-L, 800 epochs of masked ImageNet-1k at 192 px, its decoder included.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcolv2-l_mim_8xb256-amp-800e_in1k-192x192.py
Hardware: 8 GPUs, 256 images each. Expected: not run.
"""

_base_ = [
    "../_base_/pretraining/simmim_800e_in1k-192x192.py",
    "../_base_/backbones/revcolv2-l.py",
]

model = dict(
    backbone=dict(
        type="mmrev.MaskedAutoencoder",
        backbone=dict(_base_.backbone, out_indices=(0,), init_cfg=None),
    ),
    neck=dict(in_channels=_base_.channels[0], encoder_stride=4),
    head=dict(target_window=None),
)
