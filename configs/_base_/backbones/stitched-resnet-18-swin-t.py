"""ResNet-18 and Swin-T stitched: 8 stitches, as SN-Net; pretrained on ImageNet-1k.

Batch norms stay as pretrained, so that they are right for every stitch.
"""

channels = [96, 192, 384, 768]
storage = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            type="mmdet.ResNet",
            depth=18,
            norm_cfg=dict(type="BN", requires_grad=False),
            norm_eval=True,
            init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
        ),
        dict(
            type="mmdet.SwinTransformer",
            embed_dims=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            drop_path_rate=0.2,
            convert_weights=True,
            init_cfg=dict(
                type="Pretrained",
                checkpoint=storage + "swin_tiny_patch4_window7_224.pth",
            ),
        ),
    ],
    routes=dict(stages=(1, 2), monotone=True),
)
