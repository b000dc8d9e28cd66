"""ReduceNet-34: 16 blocks, expansion 2; weights of our own ImageNet config."""

channels = [64, 128, 256, 512]
pretrained = "work_dirs/reducenet-34_8xb128_in1k/epoch_300.pth"
backbone = dict(
    type="mmrev.ReduceNet",
    arch="34",
    init_cfg=dict(type="Pretrained", checkpoint=pretrained),
)
