"""RevColV2-L: 6 columns up, 6 down, 326 M parameters; weights of our own MIM config."""

channels = [128, 256, 512, 1024]
masked = "work_dirs/revcolv2-l_mim_8xb256-amp-800e_in1k-192x192/epoch_800.pth"
backbone = dict(
    type="mmrev.RevColV2",
    arch="large",
    init_cfg=dict(type="Pretrained", checkpoint=masked),
)
