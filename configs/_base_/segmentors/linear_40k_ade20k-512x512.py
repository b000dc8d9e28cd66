"""BatchNorm and 1x1 on all levels of a frozen backbone, 40k steps of ADE20K, crop 512.

Optimizer, batch, clipping, dropout and windows of the test are those of DINOv3's linear
protocol (facebookresearch/dinov3 @78dc9b8, dinov3/eval/segmentation/config.py), whose
plain ViTs are read at their last level: ``in_channels`` of one number does that.
"""

_base_ = [
    "mmseg::_base_/datasets/ade20k.py",
    "mmseg::_base_/default_runtime.py",
    "mmseg::_base_/schedules/schedule_40k.py",
    "../default_runtime.py",
]

track = "frozen"
crop_size = (512, 512)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
    ),
    decode_head=dict(
        type="mmrev.LinearHead",
        num_classes=150,
        dropout_ratio=0.1,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    test_cfg=dict(mode="slide", crop_size=crop_size, stride=(341, 341)),
)

lr = 1e-3
max_iters = 40000
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=lr, weight_decay=0.01),
    clip_grad=dict(max_norm=35.0),
)
# One rate for the whole model, which is the head's.
param_scheduler = [
    dict(type="OneCycleLR", eta_max=lr, total_steps=max_iters, by_epoch=False)
]
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(**_base_.checkpointing, save_best="mIoU"))
val_dataloader = _base_.one_size
test_dataloader = _base_.one_size
val_evaluator = dict(_delete_=True, type="mmrev.IoUMetric")
test_evaluator = val_evaluator
