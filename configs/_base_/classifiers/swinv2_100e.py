"""Swin-V2 as classifier, from SimMIM: 100 epochs at batch 2048, by layer decay.

Reference: microsoft/Swin-Transformer @f82860b, configs/simmim/
simmim_finetune__swinv2_base__img224_window14__800ep.yaml, whose learning rate, 1.25e-3,
is for 512 images.
"""

_base_ = ["./swinv2_300e.py"]

optim_wrapper = dict(optimizer=dict(lr=5e-3), paramwise_cfg=dict(decay_rate=0.75))
warmup = dict(_base_.param_scheduler[0], start_factor=2e-4)
cosine = dict(_base_.param_scheduler[1], eta_min=1e-6)
param_scheduler = [warmup, cosine]
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=2048)
