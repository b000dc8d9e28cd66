"""RevCol-H: 8 columns, 2.1 B parameters, pretrained on MegData-168M."""

channels = [360, 720, 1440, 2880]
backbone = dict(
    type="mmrev.RevCol",
    arch="huge",
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/revcol_huge_megdata.pth"
    ),
)
