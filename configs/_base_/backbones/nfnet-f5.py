"""NFNet-F5: 369 M parameters, pretrained on ImageNet-1k."""

channels = [256, 512, 1536, 1536]
backbone = dict(
    type="mmrev.NFNet",
    arch="F5",
    memory="recompute",
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/dm_nfnet_f5-ecb20ab1.pth"
    ),
)
