"""VanillaNet-13, ImageNet-1k weights: 58.6 M parameters in a deployed classifier."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="13",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/vanillanet_13.pth"),
)
