"""RevCol-T: 4 columns, 30 M parameters, pretrained on ImageNet-1k."""

channels = [64, 128, 256, 512]
backbone = dict(
    type="mmrev.RevCol",
    arch="tiny",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/revcol_tiny_1k.pth"),
)
