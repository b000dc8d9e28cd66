"""DeiT-Ti, S and B stitched: 71 stitches, as SN-Net; pretrained on ImageNet-1k.

A plain ViT has one map; the simple feature pyramid of ViTDet makes four levels of it.
"""

channels = [256, 256, 256, 256]
storage = "https://mmassets.onedl.ai/mmclassification/v0/deit/"
deit = dict(
    type="mmpretrain.VisionTransformer",
    img_size=224,
    out_type="featmap",
    drop_path_rate=0.1,
)
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            **deit,
            arch="deit-tiny",
            init_cfg=dict(
                type="Pretrained",
                checkpoint=storage + "deit-tiny_pt-4xb256_in1k_20220218-13b382a0.pth",
                prefix="backbone.",
            ),
        ),
        dict(
            **deit,
            arch="deit-small",
            init_cfg=dict(
                type="Pretrained",
                checkpoint=storage + "deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth",
                prefix="backbone.",
            ),
        ),
        dict(
            **deit,
            arch="deit-base",
            init_cfg=dict(
                type="Pretrained",
                checkpoint=storage + "deit-base_pt-16xb64_in1k_20220216-db63c16c.pth",
                prefix="backbone.",
            ),
        ),
    ],
    routes=dict(stages=(0,)),
    pyramid=dict(type="mmrev.SimpleFeaturePyramid", out_channels=256),
)
