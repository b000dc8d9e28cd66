"""NFNet-F6: 431 M parameters, pretrained on ImageNet-1k, with SAM."""

channels = [256, 512, 1536, 1536]
backbone = dict(
    type="mmrev.NFNet",
    arch="F6",
    memory="recompute",
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/dm_nfnet_f6-e0f12116.pth"
    ),
)
