"""Mask2Former, 160k steps of ADE20K at batch 16, crop 512 (base: R50, 47.9 mIoU)."""

_base_ = [
    "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
    "../default_runtime.py",
]

without_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        _delete_=True,
        decay_rate=1.0,
        custom_keys=dict(
            backbone=dict(lr_mult=0.1),
            query_embed=without_decay,
            query_feat=without_decay,
            level_embed=without_decay,
        ),
    ),
)
default_hooks = dict(checkpoint=dict(**_base_.checkpointing))
val_evaluator = dict(type="mmrev.IoUMetric")
test_evaluator = val_evaluator
