"""EfficientNet-Lite0 of timm, pretrained on ImageNet-1k: 3.0 M parameters.

``python tests/real_weights.py`` puts the weights there.
`pixels` is how its images are normalised.
"""

channels = [24, 40, 112, 320]
pixels = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
backbone = dict(
    type="mmpretrain.TIMMBackbone",
    model_name="tf_efficientnet_lite0",
    features_only=True,
    out_indices=(1, 2, 3, 4),
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/efficientnet-lite0.pth"
    ),
)
