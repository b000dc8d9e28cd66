"""VanillaNet-5, ImageNet-1k weights: 15.5 M parameters in a deployed classifier."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="5",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/vanillanet_5.pth"),
)
