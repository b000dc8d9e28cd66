"""The Swin-V2 of the demo with 4 experts: 4.3 M parameters, a token meets 2.3 M."""

_base_ = "./swinv2-demo.py"

backbone = dict(moe=dict(num_experts=4))
