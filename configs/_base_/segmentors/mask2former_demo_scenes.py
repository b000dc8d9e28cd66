"""mmseg's Mask2Former, shrunk for 96-pixel scenes and two CPU cores."""

_base_ = [
    "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
    "../datasets/scenes_segmentation.py",
    "../default_runtime.py",
]

num_classes = 11
embed_dims = 128
ffn = dict(embed_dims=embed_dims, feedforward_channels=512)
attention = dict(embed_dims=embed_dims, num_heads=4)
model = dict(
    type="mmrev.EncoderDecoder",
    data_preprocessor=dict(size=(96, 96)),
    decode_head=dict(
        feat_channels=embed_dims,
        out_channels=embed_dims,
        num_classes=num_classes,
        num_queries=20,
        pixel_decoder=dict(
            encoder=dict(
                num_layers=1, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)
            ),
            positional_encoding=dict(num_feats=embed_dims // 2),
        ),
        positional_encoding=dict(num_feats=embed_dims // 2),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn
            ),
        ),
        loss_cls=dict(loss_weight=4.0, class_weight=[1.0] * num_classes + [0.1]),
        train_cfg=dict(num_points=1024),
    ),
    # A loss on every pixel, beside the few masks that an image gives the queries.
    auxiliary_head=dict(
        type="FCNHead",
        in_index=1,
        channels=embed_dims,
        num_convs=1,
        concat_input=False,
        num_classes=num_classes,
        norm_cfg=dict(type="GN", num_groups=32),
        align_corners=False,
        loss_decode=dict(
            type="CrossEntropyLoss",
            class_weight=[0.2] + [1.0] * (num_classes - 1),
            loss_weight=5.0,
        ),
    ),
)

train_dataloader = dict(_delete_=True, **_base_.scenes_train_dataloader)
val_dataloader = dict(_delete_=True, **_base_.scenes_val_dataloader)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmrev.IoUMetric")
test_evaluator = val_evaluator

max_iters = 1000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=8e-4, fused=True),
    clip_grad=dict(max_norm=1.0),
    constructor="mmrev.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, decay_rate=0.85),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
    dict(type="PolyLR", power=0.9, by_epoch=False, begin=50, end=max_iters),
]
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(**_base_.checkpointing, interval=100),
)
randomness = dict(seed=0)
