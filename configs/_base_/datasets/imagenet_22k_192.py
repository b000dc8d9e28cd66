"""ImageNet-22k at 192 px, as Swin-V2 is pretrained."""

_base_ = ["./imagenet_22k.py"]

train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=192),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=219),  # 256 / 224 of the crop
    dict(_base_.test_pipeline[2], crop_size=192),
    _base_.test_pipeline[3],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
