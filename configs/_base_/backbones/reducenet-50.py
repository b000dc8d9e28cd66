"""ReduceNet-50: 24 blocks, expansion 4; weights of our own ImageNet config."""

channels = [64, 128, 256, 512]
pretrained = "work_dirs/reducenet-50_8xb128_in1k/epoch_300.pth"
backbone = dict(
    type="mmrev.ReduceNet",
    arch="50",
    init_cfg=dict(type="Pretrained", checkpoint=pretrained),
)
