"""Swin-V2-T: 28 M parameters, pretrained on ImageNet-1k with window 8."""

channels = [96, 192, 384, 768]
backbone = dict(
    type="mmrev.SwinTransformerV2",
    arch="tiny",
    window_size=16,
    pretrained_window_sizes=8,
    out_norm="layer_norm",
    init_cfg=dict(
        type="Pretrained",
        checkpoint="data/pretrained/swinv2_tiny_patch4_window8_256.pth",
    ),
)
