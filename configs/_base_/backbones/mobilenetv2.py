"""MobileNetV2 of timm, pretrained on ImageNet-1k: 1.8 M parameters.

``python tests/real_weights.py`` puts the weights there.
"""

channels = [24, 32, 96, 320]
backbone = dict(
    type="mmpretrain.TIMMBackbone",
    model_name="mobilenetv2_100",
    features_only=True,
    out_indices=(1, 2, 3, 4),
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/mobilenetv2.pth"),
)
