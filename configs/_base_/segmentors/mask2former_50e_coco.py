"""Mask2Former, 50 epochs of COCO at batch 16, jittered (base: R50, 42.9 mask AP)."""

_base_ = [
    "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
    "../mask2former.py",
    "../default_runtime.py",
]

optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        _delete_=True, decay_rate=1.0, custom_keys=_base_.mask2former_keys
    ),
)
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="coco/segm_mAP"),
)
val_dataloader = _base_.one_size
test_dataloader = _base_.one_size
val_evaluator = dict(type="mmrev.CocoMetric")
test_evaluator = val_evaluator
