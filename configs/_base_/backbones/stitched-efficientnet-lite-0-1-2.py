"""EfficientNet-Lite 0, 1 and 2 stitched, of timm; pretrained on ImageNet-1k.

The small set: 11 M parameters. `pixels` is how its images are normalised.
"""

channels = [24, 48, 120, 352]
pixels = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
lite = dict(type="mmpretrain.TIMMBackbone", features_only=True)
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            **lite,
            model_name="tf_efficientnet_lite0",
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/pretrained/tf_efficientnet_lite0.pth",
            ),
        ),
        dict(
            **lite,
            model_name="tf_efficientnet_lite1",
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/pretrained/tf_efficientnet_lite1.pth",
            ),
        ),
        dict(
            **lite,
            model_name="tf_efficientnet_lite2",
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/pretrained/tf_efficientnet_lite2.pth",
            ),
        ),
    ],
    routes=dict(stages=(1, 2, 3, 4), monotone=True),
)
