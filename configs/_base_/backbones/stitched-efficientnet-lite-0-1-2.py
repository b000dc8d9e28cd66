"""EfficientNet-Lite 0, 1 and 2 stitched, of timm; pretrained on ImageNet-1k.

The small set: 11 M parameters. `pixels` is how its images are normalised.
"""

channels = [24, 48, 120, 352]
pixels = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            type="mmpretrain.TIMMBackbone",
            model_name=f"tf_efficientnet_lite{size}",
            features_only=True,
            init_cfg=dict(
                type="Pretrained",
                checkpoint=f"data/pretrained/tf_efficientnet_lite{size}.pth",
            ),
        )
        for size in (0, 1, 2)
    ],
    routes=dict(stages=(1, 2, 3, 4), monotone=True),
)
