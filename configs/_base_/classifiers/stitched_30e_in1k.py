"""Stitched backbones on ImageNet-1k: 30 epochs of SGD at batch 1024, a stitch a step.

The settings of SN-Net's ResNets (ziplab/SN-Net @c2dcf30, stitching_resnet_swin/, README
and train.py): neither mixup nor CutMix, more images are erased from.
"""

_base_ = ["./stitched_50e_in1k.py"]

model = dict(model=dict(train_cfg=None))
train_pipeline = [
    _base_.train_pipeline[0],
    _base_.train_pipeline[1],
    _base_.train_pipeline[2],
    _base_.train_pipeline[3],
    dict(_base_.train_pipeline[4], erase_prob=0.6),
    _base_.train_pipeline[5],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type="SGD",
        lr=0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=2e-5,
    ),
    clip_grad=None,
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=2e-4,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=5),
]
train_cfg = dict(max_epochs=30)
