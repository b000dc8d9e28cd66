"""SwinV2-MoE-S: 16 experts, 279 M parameters of which a token meets 49 M."""

_base_ = "./swinv2-s-moe8.py"

backbone = dict(
    moe=dict(num_experts=16),
    init_cfg=dict(checkpoint="data/pretrained/swinv2_small_moe16.pth"),
)
