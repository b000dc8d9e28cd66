"""NFNet-F0: 64 M parameters, pretrained on ImageNet-1k."""

channels = [256, 512, 1536, 1536]
backbone = dict(
    type="mmrev.NFNet",
    arch="F0",
    memory="recompute",
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/dm_nfnet_f0-604f9c3a.pth"
    ),
)
