"""ImageNet-1k for 300 epochs at batch 1024 with LAMB and binary cross-entropy.

mmpretrain's ResNet strikes back A2, without repeated augmentation; learning rate and
averaging are VanillaNet's (the square root of 1024 / 2048 times A2's rate).
"""

_base_ = [
    "mmpretrain::resnet/resnet50_8xb256-rsb-a2-300e_in1k.py",
    "../default_runtime.py",
]

train_dataloader = dict(
    batch_size=128, sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True)
)
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    optimizer=dict(lr=3.5e-3),
    paramwise_cfg=dict(_delete_=True, decay_rate=1.0),
)
cosine = dict(_base_.param_scheduler[1], convert_to_iter_based=True)
param_scheduler = [_base_.param_scheduler[0], cosine]
auto_scale_lr = dict(base_batch_size=1024)
custom_hooks = [dict(type="EMAHook", momentum=4e-5, priority="ABOVE_NORMAL")]
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="accuracy/top1"),
)
