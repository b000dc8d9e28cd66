"""RevCol-S: 8 columns, 60 M parameters, pretrained on ImageNet-1k."""

channels = [64, 128, 256, 512]
backbone = dict(
    type="mmrev.RevCol",
    arch="small",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/revcol_small_1k.pth"),
)
