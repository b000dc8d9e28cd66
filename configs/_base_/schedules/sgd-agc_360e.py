"""How NFNet was trained: 360 epochs at batch 4096, SGD with adaptive clipping.

Reference: google-deepmind/deepmind-research @f5de0ed, nfnets/experiment_nfnets.py. The
learning rate is 0.1 for 256 images; 1-D and scalar parameters (gains, biases) have no
weight decay; the average's momentum starts at 1 and falls to 1e-5.
"""

max_epochs = 360
warmup_epochs = 5
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = {}
test_cfg = {}
optim_wrapper = dict(
    type="mmrev.AGCBFloat16OptimWrapper",
    clip_factor=0.01,
    eps=1e-3,
    exclude=["head.fc.weight"],
    optimizer=dict(type="SGD", lr=1.6, momentum=0.9, nesterov=True, weight_decay=2e-5),
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=1.0),
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-4,
        by_epoch=True,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    dict(
        type="EMAHook",
        ema_type="MomentumAnnealingEMA",
        momentum=1e-5,
        gamma=9,
        priority="ABOVE_NORMAL",
    )
]
auto_scale_lr = dict(base_batch_size=4096)
