"""NFNet-F2: 186 M parameters, pretrained on ImageNet-1k."""

channels = [256, 512, 1536, 1536]
backbone = dict(
    type="mmrev.NFNet",
    arch="F2",
    memory="recompute",
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/dm_nfnet_f2-89875923.pth"
    ),
)
