"""RevCol-L as classifier, from ImageNet-22k."""

_base_ = ["./revcol_30e.py"]

optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(decay_rate=0.8))
param_scheduler = [dict(_base_.param_scheduler[0], eta_min_ratio=4e-3)]
