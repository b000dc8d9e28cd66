"""ImageNet-1k at 384 px, for fine-tuning; tests squash the whole image to a square.

As Swin-V2 and RevCol have it: mmpretrain's config of 384 px has neither RandAugment nor
random erasing.
"""

_base_ = ["mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py"]

size = 384
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=size),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type="Resize", scale=(size, size), backend="pillow", interpolation="bicubic"),
    _base_.test_pipeline[3],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
