"""ImageNet-1k at 640 px, for fine-tuning; tests squash the whole image to a square."""

_base_ = ["mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py"]

size = 640
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
