"""NFNet-F4: 308 M parameters, pretrained on ImageNet-1k."""

channels = [256, 512, 1536, 1536]
backbone = dict(
    type="mmrev.NFNet",
    arch="F4",
    memory="recompute",
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/dm_nfnet_f4-0ac5b10b.pth"
    ),
)
