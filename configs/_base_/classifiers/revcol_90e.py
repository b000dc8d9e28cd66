"""RevCol as classifier of ImageNet-22k: 90 epochs at batch 4096, with its supervision.

Reference: megvii-research/RevCol @1680848, configs/revcol_*_22k_pretrain.yaml, whose
learning rate, 1.25e-4, is for 1024 images; how many a batch had it does not say.
"""

_base_ = [
    "mmpretrain::_base_/models/convnext/convnext-tiny.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
    "mmpretrain::_base_/default_runtime.py",
    "../default_runtime.py",
]

num_classes = 21841
neck = dict(type="mmrev.NormalizedAveragePooling")
head = dict(_base_.model.head, num_classes=num_classes)
model = dict(
    _delete_=True,
    type="mmrev.IntermediateSupervision",
    model=dict(_base_.model, neck=neck, head=head),
    num_classes=num_classes,
)
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    optimizer=dict(lr=5e-4, weight_decay=0.1),
    clip_grad=dict(max_norm=10.0),
    paramwise_cfg=dict(_delete_=True, decay_rate=1.0),
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=0.08,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min=4e-7,
        by_epoch=True,
        begin=5,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=90)
auto_scale_lr = dict(base_batch_size=4096)
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="accuracy/top1"),
)
