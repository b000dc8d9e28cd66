"""NFNet-F1 as classifier of ImageNet-1k: trained at 224 px, tested at 320 px."""

_base_ = ["./nfnet-f0_in1k.py"]

model = dict(neck=dict(dropout_rate=0.3))
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=224),
    _base_.train_pipeline[2],
    dict(_base_.train_pipeline[3], magnitude_level=10),
    _base_.train_pipeline[4],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=(352, 352)),
    dict(_base_.test_pipeline[2], crop_size=320),
    _base_.test_pipeline[3],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
