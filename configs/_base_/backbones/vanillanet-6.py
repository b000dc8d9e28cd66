"""VanillaNet-6, ImageNet-1k weights: 32.5 M parameters in a deployed classifier."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="6",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/vanillanet_6.pth"),
)
