"""Stitched backbones on ImageNet-1k: 50 epochs at batch 1024, a stitch a step.

The settings of SN-Net's DeiT (ziplab/SN-Net @c2dcf30, stitching_deit/), half of whose
loss is the classes of RegNetY-16GF. Its weights are those of DeiT: model.safetensors of
https://huggingface.co/timm/regnety_160.deit_in1k.
"""

_base_ = [
    "mmpretrain::deit/deit-base_16xb64_in1k.py",
    "../stitching.py",
    "../default_runtime.py",
]

model = dict(
    _delete_=True,
    type="mmrev.ClassDistillation",
    model=dict(
        type="ImageClassifier",
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=1000, loss=_base_.model.head.loss),
        train_cfg=_base_.model.train_cfg,
    ),
    teacher=dict(
        type="TimmClassifier",
        model_name="regnety_160",
        init_cfg=dict(
            type="Pretrained",
            checkpoint="data/pretrained/regnety_160.deit_in1k.safetensors",
        ),
    ),
)
train_dataloader = dict(batch_size=128)
undecayed = dict(decay_mult=0.0)
optim_wrapper = dict(
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    optimizer=dict(lr=5e-5 * 1024 / 512),
    paramwise_cfg=dict(
        _delete_=True,
        decay_rate=1.0,
        custom_keys=dict(
            pos_embed=undecayed,
            cls_token=undecayed,
            relative_position_bias_table=undecayed,
        ),
    ),
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-3,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, begin=5),
]
train_cfg = dict(max_epochs=50)
custom_hooks = _base_.stitch_hooks
test_cfg = _base_.stitch_test
default_hooks = dict(checkpoint=dict(**_base_.checkpointing))
