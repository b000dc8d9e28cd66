"""ResNet-18 and 50 stitched: 10 stitches, as SN-Net; pretrained on ImageNet-1k.

Batch norms stay as pretrained, so that they are right for every stitch.
"""

channels = [256, 512, 1024, 2048]
resnet = dict(
    type="mmdet.ResNet", norm_cfg=dict(type="BN", requires_grad=False), norm_eval=True
)
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            **resnet,
            depth=18,
            init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
        ),
        dict(
            **resnet,
            depth=50,
            init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
        ),
    ],
    routes=dict(stages=(1, 2), monotone=True),
)
