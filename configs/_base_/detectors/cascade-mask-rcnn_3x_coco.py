"""Cascade Mask R-CNN, 36 epochs of COCO at batch 16 in fp16, as RevCol reports it.

mmdet's ConvNeXt config has the same heads (4 conv + 1 fc, SyncBN, GIoU) and the same
480-800 multi-scale and crop branches; the RevCol reference warms up for 500 steps, not
1000, and uses its own layer decay.
"""

_base_ = [
    "mmdet::convnext/"
    "cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py",
    "../default_runtime.py",
]

custom_imports = dict(_delete_=True, imports=["mmrev"])
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type="MultiStepLR",
        begin=0,
        end=36,
        by_epoch=True,
        milestones=[27, 33],
        gamma=0.1,
    ),
]
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="coco/bbox_mAP"),
)
val_dataloader = _base_.one_size
test_dataloader = _base_.one_size
val_evaluator = dict(type="mmrev.CocoMetric")
test_evaluator = val_evaluator
