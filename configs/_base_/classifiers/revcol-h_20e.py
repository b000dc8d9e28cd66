"""RevCol-H as classifier, from MegData: 20 epochs, with averaged weights."""

_base_ = ["./revcol_30e.py"]

optim_wrapper = dict(
    optimizer=dict(lr=4e-5),
    paramwise_cfg=dict(decay_rate=0.8),
    clip_grad=dict(max_norm=100.0),
)
param_scheduler = [dict(_base_.param_scheduler[0], eta_min_ratio=5e-4)]
train_cfg = dict(max_epochs=20)
custom_hooks = [dict(type="EMAHook", momentum=1e-4, priority="ABOVE_NORMAL")]
