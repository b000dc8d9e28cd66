"""The demo's pretraining: 400 iterations on two CPU cores, for mmpretrain configs."""

_base_ = ["mmpretrain::_base_/default_runtime.py", "../default_runtime.py"]

max_iters = 400
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=3e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=1.0),
)
warmup = 20
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=warmup),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=warmup,
        end=max_iters,
        T_max=max_iters - warmup,
    ),
]
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(**_base_.checkpointing, by_epoch=False, interval=50),
)
randomness = dict(seed=0)
