"""UPerNet, 40k steps of ADE20K at batch 64 in fp16, crop 640, for Swin-V2-L."""

_base_ = "./upernet_160k_ade20k-640x640.py"

max_iters = 40000
train_cfg = dict(max_iters=max_iters, val_interval=4000)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(
        type="PolyLR", power=1.0, by_epoch=False, begin=1500, end=max_iters, eta_min=0.0
    ),
]
optim_wrapper = dict(optimizer=dict(lr=6e-5, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(checkpoint=dict(interval=4000))
