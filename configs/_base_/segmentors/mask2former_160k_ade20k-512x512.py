"""Mask2Former, 160k steps of ADE20K at batch 16, crop 512 (base: R50, 47.9 mIoU)."""

_base_ = [
    "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
    "../mask2former.py",
    "../default_runtime.py",
]

model = dict(type="mmrev.EncoderDecoder")  # mmseg's, which also slides
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        _delete_=True, decay_rate=1.0, custom_keys=_base_.mask2former_keys
    ),
)
default_hooks = dict(checkpoint=dict(**_base_.checkpointing))
val_dataloader = _base_.one_size
test_dataloader = _base_.one_size
val_evaluator = dict(type="mmrev.IoUMetric")
test_evaluator = val_evaluator
