r"""ViT-B, 800 epochs of SimMIM on ImageNet-1k, pixels as target.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/vit/vit-b_simmim_8xb256-amp-800e_in1k-224x224.py
Hardware: 8 GPUs, 256 images each. Expected: not run.
"""

_base_ = [
    "../_base_/pretraining/simmim_800e_in1k-192x192.py",
    "../_base_/backbones/vit-b.py",
]

model = dict(
    backbone=dict(backbone=dict(_base_.backbone, drop_path_rate=0.1)),
    neck=dict(in_channels=_base_.channels[-1], encoder_stride=16),
    head=dict(patch_size=16, target_window=None),
)
base = _base_.train_pipeline
crop = dict(base[1], scale=224)
mask = dict(base[3], input_size=224, model_patch_size=16)
train_pipeline = [base[0], crop, base[2], mask, base[4]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(cls_token=dict(decay_mult=0.0)))
)
