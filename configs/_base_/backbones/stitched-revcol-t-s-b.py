"""RevCol-T, S and B stitched between columns: 25 stitches; pretrained on ImageNet-1k.

T has 4 columns, S 8, B 16. A stitch hands all four levels over at once.
"""

channels = [72, 144, 288, 576]
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            type="mmrev.RevCol",
            arch=arch,
            drop_path_rate=drop_path_rate,
            init_cfg=dict(
                type="Pretrained", checkpoint=f"data/pretrained/revcol_{arch}_1k.pth"
            ),
        )
        for arch, drop_path_rate in (("tiny", 0.3), ("small", 0.4), ("base", 0.4))
    ],
    routes=dict(stages=(0,), monotone=True),
)
