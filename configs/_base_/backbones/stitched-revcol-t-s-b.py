"""RevCol-T, S and B stitched between columns: 25 stitches; pretrained on ImageNet-1k.

T has 4 columns, S 8, B 16. A stitch hands all four levels over at once.
"""

channels = [72, 144, 288, 576]
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            type="mmrev.RevCol",
            arch="tiny",
            drop_path_rate=0.3,
            init_cfg=dict(
                type="Pretrained", checkpoint="data/pretrained/revcol_tiny_1k.pth"
            ),
        ),
        dict(
            type="mmrev.RevCol",
            arch="small",
            drop_path_rate=0.4,
            init_cfg=dict(
                type="Pretrained", checkpoint="data/pretrained/revcol_small_1k.pth"
            ),
        ),
        dict(
            type="mmrev.RevCol",
            arch="base",
            drop_path_rate=0.4,
            init_cfg=dict(
                type="Pretrained", checkpoint="data/pretrained/revcol_base_1k.pth"
            ),
        ),
    ],
    routes=dict(stages=(0,), monotone=True),
)
