"""Swin-V2 as classifier of ImageNet-22k: 90 epochs at batch 4096.

Reference: microsoft/Swin-Transformer @f82860b, configs/swinv2/*_192_22k.yaml.
"""

_base_ = ["./swinv2_300e.py"]

model = dict(head=dict(num_classes=21841))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.1))
warmup = dict(_base_.param_scheduler[0], end=5)
cosine = dict(_base_.param_scheduler[1], begin=5)
param_scheduler = [warmup, cosine]
train_cfg = dict(max_epochs=90)
auto_scale_lr = dict(base_batch_size=4096)
