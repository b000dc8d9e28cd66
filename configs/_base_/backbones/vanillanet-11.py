"""VanillaNet-11, ImageNet-1k weights: 50.0 M parameters in a deployed classifier."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="11",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/vanillanet_11.pth"),
)
