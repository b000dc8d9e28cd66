r"""RevColV2-L, 100 epochs of ImageNet-1k at 224 px after masked pretraining.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcolv2-l-mim_8xb256-amp-100e_in1k.py
Hardware: 8 GPUs, 256 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/in1k_100e_after_mim.py",
    "../_base_/backbones/revcolv2-l.py",
]

model = dict(
    backbone=dict(
        _delete_=True, out_indices=(3,), drop_path_rate=0.2, **_base_.backbone
    ),
    neck=dict(in_channels=_base_.channels[-1]),
    head=dict(in_channels=_base_.channels[-1]),
)
