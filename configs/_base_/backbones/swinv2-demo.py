"""A Swin-V2 of 8 blocks and 2.3 M parameters that two CPU cores train in minutes.

The windows divide the maps of 96-pixel images: 24, 12 and 6; the last map, 3, is one.
"""

channels = [32, 64, 128, 256]
backbone = dict(
    type="mmrev.SwinTransformerV2",
    arch=dict(embed_dims=32, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8]),
    window_size=6,
    out_norm="layer_norm",
)
