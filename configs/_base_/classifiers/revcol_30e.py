"""RevCol as classifier, from ImageNet-22k: 30 epochs at batch 1024, by layer decay.

Reference: megvii-research/RevCol @1680848, configs/revcol_*_finetune.yaml; the settings
here are B's. Its classifier starts anew, at a thousandth of the usual size.
"""

_base_ = [
    "mmpretrain::_base_/models/convnext/convnext-tiny.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
    "mmpretrain::_base_/default_runtime.py",
    "../default_runtime.py",
]

model = dict(
    neck=dict(type="mmrev.NormalizedAveragePooling"),
    head=dict(
        init_cfg=dict(_delete_=True, type="TruncNormal", layer="Linear", std=2e-5)
    ),
    train_cfg=None,
)
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    optimizer=dict(lr=1e-4, weight_decay=1e-8),
    clip_grad=dict(max_norm=10.0),
    paramwise_cfg=dict(_delete_=True, decay_rate=0.9),
)
param_scheduler = [
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=2e-3,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=30)
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="accuracy/top1"),
)
