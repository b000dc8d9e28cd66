"""SimMIM on ImageNet-1k: 800 epochs at batch 2048, 60 % of patches of 32 px masked.

mmpretrain's config for Swin-B has the reference's pipeline, optimizer and schedule; the
target, normalised over 47 x 47 pixels, is that of Swin-V2.
"""

_base_ = [
    "mmpretrain::simmim/simmim_swin-base-w6_16xb128-amp-coslr-800e_in1k-192px.py",
    "../default_runtime.py",
]

model = dict(
    backbone=dict(_delete_=True, type="mmrev.MaskedBackbone"),
    head=dict(type="mmrev.SimMIMHead", target_window=47),
)
train_pipeline = [
    _base_.train_pipeline[0],
    _base_.train_pipeline[1],
    _base_.train_pipeline[2],
    dict(_base_.train_pipeline[3], type="mmrev.SimMIMMaskGenerator"),
    _base_.train_pipeline[4],
]
train_dataloader = dict(
    dataset=dict(pipeline=train_pipeline),
    # Anew: a function takes no scope, which mmengine adds to what an `mmpretrain::`
    # base states.
    collate_fn=dict(_delete_=True, type="default_collate"),
)
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, decay_rate=1.0),
)
default_hooks = dict(checkpoint=dict(**_base_.checkpointing))
