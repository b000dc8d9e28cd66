"""The demo's two NFNets, stitched; each starts from its classifier of digits."""

channels = [64, 128, 256, 512]
shared = dict(type="mmrev.NFNet", skip_gain_init_value=1.0)
backbone = dict(
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            arch=dict(channels=[32, 64, 128, 256], depths=[1, 2, 2, 1], group_width=16),
            init_cfg=dict(
                type="Pretrained",
                checkpoint="work_dirs/demo-nfnet-small/crops/iter_400.pth",
            ),
            **shared,
        ),
        dict(
            arch=dict(channels=channels, depths=[1, 2, 3, 2], group_width=32),
            init_cfg=dict(
                type="Pretrained", checkpoint="work_dirs/demo-nfnet/crops/iter_400.pth"
            ),
            **shared,
        ),
    ],
    routes=dict(stages=(1, 2, 3), monotone=True),
)
