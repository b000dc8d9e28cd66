"""ImageNet-1k for 300 epochs at batch 1024, the recipe of RevCol with its supervision.

mmpretrain's ConvNeXt config has the same augmentation, mixup, CutMix, label smoothing
and EMA; learning rate, warm-up and final rate are RevCol's.
"""

_base_ = [
    "mmpretrain::convnext/convnext-tiny_32xb128_in1k.py",
    "../default_runtime.py",
]

classifier = dict(_base_.model, neck=dict(type="mmrev.NormalizedAveragePooling"))
model = dict(
    _delete_=True,
    type="mmrev.IntermediateSupervision",
    model=classifier,
    num_classes=1000,
)
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(_delete_=True, decay_rate=1.0),
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=0.01,
        by_epoch=True,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min=1e-6,
        by_epoch=True,
        begin=20,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=1024)
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="accuracy/top1"),
)
