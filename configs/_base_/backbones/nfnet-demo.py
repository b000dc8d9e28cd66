"""An NFNet of 8 blocks and 2.3 M parameters that two CPU cores train in minutes.

The branches start at full strength: from 0 they would still be weak after a short
schedule.
"""

channels = [64, 128, 256, 512]
backbone = dict(
    type="mmrev.NFNet",
    arch=dict(channels=channels, depths=[1, 2, 3, 2], group_width=32),
    skip_gain_init_value=1.0,
)
