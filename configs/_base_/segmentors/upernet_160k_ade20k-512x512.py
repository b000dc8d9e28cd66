"""UPerNet, 160k steps of ADE20K at batch 16 in fp16, crop 512, as RevCol reports it."""

_base_ = [
    "mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py",
    "../default_runtime.py",
]

custom_imports = dict(_delete_=True, imports=["mmrev"])
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    optimizer=dict(weight_decay=0.01),
    paramwise_cfg=dict(_delete_=True),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(**_base_.checkpointing, save_best="mIoU"))
val_dataloader = _base_.one_size
test_dataloader = _base_.one_size
val_evaluator = dict(type="mmrev.IoUMetric")
test_evaluator = val_evaluator
