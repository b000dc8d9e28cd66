"""RevCol-L: 8 columns, 272 M parameters, pretrained on ImageNet-22k."""

channels = [128, 256, 512, 1024]
backbone = dict(
    type="mmrev.RevCol",
    arch="large",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/revcol_large_22k.pth"),
)
