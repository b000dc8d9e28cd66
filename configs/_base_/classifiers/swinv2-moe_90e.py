"""SwinV2-MoE as classifier of ImageNet-22k: 90 epochs at batch 4096.

Reference: microsoft/Swin-Transformer @f82860b, configs/swinmoe/*_22k.yaml. Learning
rate, weight decay, warm-up, clipping, drop path, dropout in experts and the weight of
the balance are those.
"""

_base_ = ["./swinv2_90e.py"]

model = dict(_delete_=True, type="mmrev.BalancedExperts", model=_base_.model)
warmup = dict(_base_.param_scheduler[0], end=10)
cosine = dict(_base_.param_scheduler[1], begin=10)
param_scheduler = [warmup, cosine]
optim_wrapper = dict(clip_grad=dict(max_norm=3.0))
