"""Swin-V2 as classifier: 300 epochs at batch 1024.

Reference: microsoft/Swin-Transformer @f82860b, config.py and configs/swinv2/.
mmpretrain has its settings but for clipping, and lowers the rate once an epoch.
"""

_base_ = [
    "mmpretrain::_base_/models/swin_transformer_v2/tiny_256.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
    "mmpretrain::_base_/default_runtime.py",
    "../default_runtime.py",
]

optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(_delete_=True, decay_rate=1.0),
)
cosine = dict(_base_.param_scheduler[1], convert_to_iter_based=True)
param_scheduler = [_base_.param_scheduler[0], cosine]
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="accuracy/top1"),
)
