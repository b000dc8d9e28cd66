"""NFNet-F0 as classifier of ImageNet-1k: trained at 192 px, tested at 256 px.

Reference: google-deepmind/deepmind-research @f5de0ed, nfnets/. It mixes one half of a
batch by mixup and the other by CutMix; here each batch takes one of them.
"""

_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/default_runtime.py",
    "../default_runtime.py",
]

model = dict(
    type="ImageClassifier",
    neck=dict(type="mmrev.NFNetPooling", in_channels=1536, dropout_rate=0.2),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=3072,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
    train_cfg=dict(
        augments=[dict(type="Mixup", alpha=0.2), dict(type="CutMix", alpha=1.0)]
    ),
)
# The base's augmentation without random erasing, and RandAugment of four steps.
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=192),
    _base_.train_pipeline[2],
    dict(_base_.train_pipeline[3], num_policies=4, magnitude_level=5),
    _base_.train_pipeline[5],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=288),
    dict(_base_.test_pipeline[2], crop_size=256),
    _base_.test_pipeline[3],
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="accuracy/top1"),
)
