"""Swin-V2-B: 87 M parameters, pretrained on ImageNet-22k, fine-tuned on 1k."""

channels = [128, 256, 512, 1024]
backbone = dict(
    type="mmrev.SwinTransformerV2",
    arch="base",
    window_size=16,
    pretrained_window_sizes=(12, 12, 12, 6),
    out_norm="layer_norm",
    init_cfg=dict(
        type="Pretrained",
        checkpoint="data/pretrained/swinv2_base_patch4_window12to16_192to256_22kto1k_ft.pth",
    ),
)
