"""Swin-V2-T, S and B stitched: 41 stitches; pretrained on ImageNet-1k, B on 22k.

Anchors as the files swinv2-t.py, swinv2-s.py and swinv2-b-in22k.py have them.
"""

channels = [128, 256, 512, 1024]
swinv2 = dict(type="mmrev.SwinTransformerV2", window_size=16, out_norm="layer_norm")
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            **swinv2,
            arch="tiny",
            pretrained_window_sizes=8,
            drop_path_rate=0.2,
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/pretrained/swinv2_tiny_patch4_window8_256.pth",
            ),
        ),
        dict(
            **swinv2,
            arch="small",
            pretrained_window_sizes=8,
            drop_path_rate=0.3,
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/pretrained/swinv2_small_patch4_window8_256.pth",
            ),
        ),
        dict(
            **swinv2,
            arch="base",
            pretrained_window_sizes=(12, 12, 12, 6),
            drop_path_rate=0.3,
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/pretrained/swinv2_base_patch4_window12to16_192to256_22kto1k_ft.pth",
            ),
        ),
    ],
    routes=dict(stages=(0, 1, 2), monotone=True),
)
