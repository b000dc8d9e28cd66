"""VanillaNet-9, ImageNet-1k weights: 41.4 M parameters in a deployed classifier."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="9",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/vanillanet_9.pth"),
)
