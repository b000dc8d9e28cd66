"""RevCol-XL as classifier, from ImageNet-22k, with averaged weights."""

_base_ = ["./revcol_30e.py"]

optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(decay_rate=0.8))
param_scheduler = [dict(_base_.param_scheduler[0], eta_min_ratio=1e-2)]
custom_hooks = [dict(type="EMAHook", momentum=1e-4, priority="ABOVE_NORMAL")]
