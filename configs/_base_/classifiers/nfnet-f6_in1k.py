"""NFNet-F6 as classifier of ImageNet-1k: trained at 448 px, tested at 576 px."""

_base_ = ["./nfnet-f0_in1k.py"]

model = dict(neck=dict(dropout_rate=0.5))
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=448),
    _base_.train_pipeline[2],
    dict(_base_.train_pipeline[3], magnitude_level=15),
    _base_.train_pipeline[4],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=(608, 608)),
    dict(_base_.test_pipeline[2], crop_size=576),
    _base_.test_pipeline[3],
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
