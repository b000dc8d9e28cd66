"""An NFNet of 6 blocks and 0.4 M parameters, half as wide as the demo's other one."""

channels = [32, 64, 128, 256]
backbone = dict(
    type="mmrev.NFNet",
    arch=dict(channels=channels, depths=[1, 2, 2, 1], group_width=16),
    skip_gain_init_value=1.0,
)
