"""Swin-V2-H: 655 M parameters, pretrained at 192 px with window 12."""

channels = [352, 704, 1408, 2816]
backbone = dict(
    type="mmrev.SwinTransformerV2",
    arch="huge",
    window_size=16,
    pretrained_window_sizes=(12, 12, 12, 6),
    out_norm="layer_norm",
    memory="recompute",
    init_cfg=dict(
        type="Pretrained",
        checkpoint="data/pretrained/swinv2_huge.pth",
    ),
)
