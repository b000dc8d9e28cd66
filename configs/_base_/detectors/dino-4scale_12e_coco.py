"""DINO on four scales, 12 epochs of COCO at batch 16 (base: DINO R50, 49.0 box AP)."""

_base_ = [
    "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py",
    "mmdet::retinanet/retinanet_tta.py",
    "../default_runtime.py",
]

model = dict(type="mmrev.DINO", bbox_head=dict(type="mmrev.DINOHead"))
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True),
)
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="coco/bbox_mAP"),
)
val_dataloader = _base_.one_size
test_dataloader = _base_.one_size
val_evaluator = dict(type="mmrev.CocoMetric")
test_evaluator = val_evaluator
