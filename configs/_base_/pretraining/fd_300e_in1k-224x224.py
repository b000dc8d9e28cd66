"""Feature distillation on ImageNet-1k: 300 epochs at batch 2048, 224 px.

The settings of SwinTransformer/Feature-Distillation @2115145, config.py and
configs/pretrain/; the images, cropped to another extent, are mmpretrain's for MAE.
"""

_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs512_mae.py",
    "mmpretrain::_base_/default_runtime.py",
    "../default_runtime.py",
]

crop = dict(
    _base_.train_pipeline[1], crop_ratio_range=(0.08, 1.0), interpolation="bilinear"
)
train_pipeline = [
    _base_.train_pipeline[0],
    crop,
    _base_.train_pipeline[2],
    _base_.train_pipeline[3],
]
train_dataloader = dict(
    batch_size=128,
    dataset=dict(pipeline=train_pipeline),
    # Anew: a function takes no scope, which mmengine adds to what an `mmpretrain::`
    # base states.
    collate_fn=dict(_delete_=True, type="default_collate"),
)
model = dict(type="mmrev.FeatureDistillation", model=dict(type="mmrev.BareModel"))

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4 * 2048 / 512, weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=1.0),
)
warmup = 10
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=0.005,
        by_epoch=True,
        end=warmup,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=0.05,
        by_epoch=True,
        begin=warmup,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=2048)
default_hooks = dict(checkpoint=dict(**_base_.checkpointing, interval=5))
