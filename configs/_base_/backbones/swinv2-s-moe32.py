"""SwinV2-MoE-S: 32 experts, 525 M parameters of which a token meets 49 M."""

_base_ = "./swinv2-s-moe8.py"

backbone = dict(
    moe=dict(num_experts=32),
    init_cfg=dict(checkpoint="data/pretrained/swinv2_small_moe32.pth"),
)
