"""RevCol-B: 16 columns, 138 M parameters, pretrained on ImageNet-1k."""

channels = [72, 144, 288, 576]
backbone = dict(
    type="mmrev.RevCol",
    arch="base",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/revcol_base_1k.pth"),
)
