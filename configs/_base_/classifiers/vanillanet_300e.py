"""VanillaNet as classifier: 300 epochs at batch 1024, the first 100 fading.

Reference: huawei-noah/VanillaNet @6aaf731, README.md and main.py; the settings here are
those of VanillaNet-8 and -9. It also averages the statistics of batch norms.
"""

_base_ = ["./in1k_300e_lamb.py"]

model = dict(
    neck=dict(
        _delete_=True,
        type="mmrev.VanillaNetPooling",
        in_channels=4096,
        out_channels=1000,
        dropout_rate=0.05,
    ),
    head=dict(
        in_channels=1000,
        loss=dict(
            _delete_=True,
            type="LabelSmoothLoss",
            label_smooth_val=0.1,
            mode="original",
            use_sigmoid=True,
        ),
    ),
    train_cfg=dict(
        augments=[dict(type="Mixup", alpha=0.4), dict(type="CutMix", alpha=1.0)]
    ),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.3))
erase = dict(
    type="RandomErasing",
    erase_prob=0.25,
    mode="rand",
    min_area_ratio=0.02,
    max_area_ratio=1 / 3,
    fill_color=_base_.bgr_mean,
    fill_std=_base_.bgr_std,
)
train_pipeline = [*_base_.train_pipeline[:4], erase, _base_.train_pipeline[4]]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=256),
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
fade = dict(type="mmrev.FadeHook", end=100)
custom_hooks = [*_base_.custom_hooks, fade]
