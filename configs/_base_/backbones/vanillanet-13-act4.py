"""VanillaNet-13 of the reference's detectors: wider activations, distilled weights."""

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type="mmrev.VanillaNet",
    arch="13",
    act_num=4,
    init_cfg=dict(
        type="Pretrained",
        checkpoint="data/pretrained/vanillanet_13_act_num_4_kd_pretrain.pth",
    ),
)
