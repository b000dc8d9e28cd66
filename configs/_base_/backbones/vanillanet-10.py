"""VanillaNet-10, ImageNet-1k weights: 45.7 M parameters in a deployed classifier."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="10",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/vanillanet_10.pth"),
)
