"""ImageNet-1k for 100 epochs at batch 2048 after masked pretraining.

mmpretrain's config for SimMIM's Swin-B at 224 px, for a backbone of this suite.
"""

_base_ = [
    "mmpretrain::simmim/benchmarks/swin-base-w7_8xb256-coslr-100e_in1k.py",
    "../default_runtime.py",
]

model = dict(neck=dict(_delete_=True, type="mmrev.NormalizedAveragePooling"))
# Anew, as in simmim_800e_in1k-192x192.py.
collate = dict(collate_fn=dict(_delete_=True, type="default_collate"))
train_dataloader = collate
val_dataloader = collate
test_dataloader = collate
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, decay_rate=0.9),
)
auto_scale_lr = dict(base_batch_size=2048)
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="accuracy/top1"),
)
