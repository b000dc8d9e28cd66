"""DINO on five scales, 36 epochs, steps 27 and 33 (base: Swin-L, 58.4 box AP)."""

_base_ = [
    "mmdet::dino/dino-5scale_swin-l_8xb2-36e_coco.py",
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
