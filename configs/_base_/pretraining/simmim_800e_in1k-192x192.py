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
load, crop, flip, mask, pack = _base_.train_pipeline
mask = dict(mask, type="mmrev.SimMIMMaskGenerator")
train_dataloader = dict(
    dataset=dict(pipeline=[load, crop, flip, mask, pack]),
    # Anew: a function takes no scope, which mmengine adds to what an `mmpretrain::`
    # base states.
    collate_fn=dict(_delete_=True, type="default_collate"),
)
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, decay_rate=1.0),
)
default_hooks = dict(checkpoint=dict(**_base_.checkpointing))
