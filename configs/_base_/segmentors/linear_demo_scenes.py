"""BatchNorm and 1x1 on all levels of a frozen backbone, for the embedded scenes."""

_base_ = [
    "mmseg::_base_/default_runtime.py",
    "mmseg::_base_/schedules/schedule_40k.py",
    "../datasets/scenes_segmentation.py",
    "../default_runtime.py",
]

track = "frozen"
num_classes = 11
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(96, 96),
    ),
    decode_head=dict(
        type="mmrev.LinearHead",
        num_classes=num_classes,
        dropout_ratio=0.1,
        norm_cfg=dict(type="BN"),
        align_corners=False,
        # Nine tenths of the pixels are background.
        loss_decode=dict(
            type="CrossEntropyLoss",
            class_weight=[0.2] + [1.0] * (num_classes - 1),
        ),
    ),
    test_cfg=dict(mode="whole"),
)

train_dataloader = _base_.scenes_train_dataloader
val_dataloader = _base_.scenes_val_dataloader
test_dataloader = val_dataloader
val_evaluator = dict(type="mmrev.IoUMetric")
test_evaluator = val_evaluator

lr = 1e-3
max_iters = 1000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=lr, weight_decay=0.01),
    clip_grad=dict(max_norm=35.0),
)
param_scheduler = [
    dict(type="OneCycleLR", eta_max=lr, total_steps=max_iters, by_epoch=False)
]
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(**_base_.checkpointing, interval=500),
)
randomness = dict(seed=0)
