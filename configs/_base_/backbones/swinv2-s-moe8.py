"""SwinV2-MoE-S: 8 experts, 156 M parameters of which a token meets 49 M."""

channels = [96, 192, 384, 768]
backbone = dict(
    type="mmrev.SwinTransformerV2",
    arch="small",
    window_size=16,
    pretrained_window_sizes=(12, 12, 12, 6),
    out_norm="layer_norm",
    moe=dict(num_experts=8, dropout=0.1),
    init_cfg=dict(
        type="Pretrained",
        checkpoint="data/pretrained/swinv2_small_moe8.pth",
    ),
)
