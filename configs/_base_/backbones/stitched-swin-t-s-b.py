"""Swin-T, S and B stitched: 41 stitches, as SN-Net; pretrained on ImageNet-1k.

The released file of each is on GitHub and is loaded from there.
"""

channels = [128, 256, 512, 1024]
storage = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
swin = dict(type="mmdet.SwinTransformer", window_size=7, convert_weights=True)
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            **swin,
            embed_dims=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            drop_path_rate=0.2,
            init_cfg=dict(
                type="Pretrained",
                checkpoint=storage + "swin_tiny_patch4_window7_224.pth",
            ),
        ),
        dict(
            **swin,
            embed_dims=96,
            depths=[2, 2, 18, 2],
            num_heads=[3, 6, 12, 24],
            drop_path_rate=0.3,
            init_cfg=dict(
                type="Pretrained",
                checkpoint=storage + "swin_small_patch4_window7_224.pth",
            ),
        ),
        dict(
            **swin,
            embed_dims=128,
            depths=[2, 2, 18, 2],
            num_heads=[4, 8, 16, 32],
            drop_path_rate=0.3,
            init_cfg=dict(
                type="Pretrained",
                checkpoint=storage + "swin_base_patch4_window7_224.pth",
            ),
        ),
    ],
    routes=dict(stages=(0, 1, 2), monotone=True),
)
