"""ReduceNet-18: 8 blocks, expansion 1; weights of our own ImageNet config."""

channels = [64, 128, 256, 512]
pretrained = "work_dirs/reducenet-18_8xb128_in1k/epoch_300.pth"
backbone = dict(
    type="mmrev.ReduceNet",
    arch="18",
    init_cfg=dict(type="Pretrained", checkpoint=pretrained),
)
