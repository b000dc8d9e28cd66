"""VanillaNet-8, ImageNet-1k weights: 37.1 M parameters in a deployed classifier."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="8",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/vanillanet_8.pth"),
)
