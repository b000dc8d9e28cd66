"""RevCol-XL: 8 columns, 832 M parameters, pretrained on ImageNet-22k."""

channels = [224, 448, 896, 1792]
backbone = dict(
    type="mmrev.RevCol",
    arch="xlarge",
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/revcol_xlarge_22k.pth"
    ),
)
