"""Swin-V2-L: 195 M parameters, pretrained on ImageNet-22k, fine-tuned on 1k."""

channels = [192, 384, 768, 1536]
backbone = dict(
    type="mmrev.SwinTransformerV2",
    arch="large",
    window_size=16,
    pretrained_window_sizes=(12, 12, 12, 6),
    out_norm="layer_norm",
    memory="recompute",
    init_cfg=dict(
        type="Pretrained",
        checkpoint="data/pretrained/swinv2_large_patch4_window12to16_192to256_22kto1k_ft.pth",
    ),
)
