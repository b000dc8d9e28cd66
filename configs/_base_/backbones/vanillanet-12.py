"""VanillaNet-12, ImageNet-1k weights: 54.3 M parameters in a deployed classifier."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="12",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/vanillanet_12.pth"),
)
