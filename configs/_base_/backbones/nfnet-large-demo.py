"""An NFNet of 5 M parameters, which teaches the other demo models.

As NFNet-demo, one and a half times as wide.
"""

channels = [96, 192, 384, 768]
backbone = dict(
    type="mmrev.NFNet",
    arch=dict(channels=channels, depths=[1, 2, 3, 2], group_width=32),
    skip_gain_init_value=1.0,
)
