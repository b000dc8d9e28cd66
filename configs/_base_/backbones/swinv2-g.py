"""Swin-V2-G: 3.0 B parameters, pretrained at 192 px with window 12."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.SwinTransformerV2",
    arch="giant",
    window_size=16,
    pretrained_window_sizes=(12, 12, 12, 6),
    out_norm="layer_norm",
    memory="recompute",
    init_cfg=dict(
        type="Pretrained",
        checkpoint="data/pretrained/swinv2_giant.pth",
    ),
)
