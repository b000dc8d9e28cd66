"""NFNet-F7+: 817 M parameters; no weights were published, so bring your own."""

channels = [384, 768, 2048, 2048]
backbone = dict(
    type="mmrev.NFNet",
    arch="F7+",
    memory="recompute",
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/nfnet_f7plus.pth"),
)
