"""RevColV2-B: 6 columns up, 6 down, 88 M parameters; weights of our own MIM config."""

channels = [64, 128, 256, 512]
masked = "work_dirs/revcolv2-b_mim_8xb256-amp-800e_in1k-192x192/epoch_800.pth"
backbone = dict(
    type="mmrev.RevColV2",
    arch="base",
    init_cfg=dict(type="Pretrained", checkpoint=masked),
)
