"""mmdet's DINO, shrunk for 96-pixel scenes and two CPU cores."""

_base_ = [
    "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py",
    "../datasets/scenes_detection.py",
    "../default_runtime.py",
]

embed_dims = 128
ffn = dict(embed_dims=embed_dims, feedforward_channels=512)
deformable = dict(embed_dims=embed_dims, num_levels=3, num_heads=4)
model = dict(
    type="mmrev.DINO",
    num_queries=30,
    neck=dict(out_channels=embed_dims, num_outs=3),
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=2,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=embed_dims, num_heads=4),
            cross_attn_cfg=deformable,
            ffn_cfg=ffn,
        ),
    ),
    positional_encoding=dict(num_feats=embed_dims // 2),
    bbox_head=dict(type="mmrev.DINOHead", num_classes=10, embed_dims=embed_dims),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=20)),
    test_cfg=dict(max_per_img=30),
)

train_dataloader = dict(_delete_=True, **_base_.scenes_train_dataloader)
val_dataloader = dict(_delete_=True, **_base_.scenes_val_dataloader)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, **_base_.scenes_val_evaluator)
test_evaluator = val_evaluator

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=4e-4, weight_decay=1e-3, fused=True),
    clip_grad=dict(max_norm=1.0),
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, decay_rate=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
    dict(
        type="CosineAnnealingLR",
        T_max=max_epochs,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(**_base_.checkpointing))
randomness = dict(seed=0)
