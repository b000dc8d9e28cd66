"""A classifier of digit crops, for two CPU cores."""

_base_ = ["../schedules/demo_400.py", "../datasets/scenes_crops.py"]

num_classes = 10
data_preprocessor = dict(
    num_classes=num_classes,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
model = dict(
    type="ImageClassifier",
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=num_classes,
        loss=dict(type="CrossEntropyLoss"),
    ),
)

val_cfg = {}
test_cfg = {}
