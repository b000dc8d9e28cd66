"""Swin-V2 as classifier, from ImageNet-22k: 30 epochs at batch 1024.

Reference: microsoft/Swin-Transformer @f82860b, configs/swinv2/*_22kto1k_ft.yaml, whose
learning rate, 2e-5, is for 512 images. It takes of the classifier of 22k the rows of
1k's classes; here the classifier starts anew.
"""

_base_ = ["./swinv2_300e.py"]

optim_wrapper = dict(optimizer=dict(lr=4e-5, weight_decay=1e-8))
warmup = dict(_base_.param_scheduler[0], end=5)
cosine = dict(_base_.param_scheduler[1], begin=5, eta_min=4e-7)
param_scheduler = [warmup, cosine]
train_cfg = dict(max_epochs=30)
