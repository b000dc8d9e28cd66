"""A RevColV2 of 2 columns up and 2 down that two CPU cores train in minutes.

Its memory mode and layer scale are those of revcol-demo.py, for the same reasons.
"""

channels = [24, 48, 96, 192]
backbone = dict(
    type="mmrev.RevColV2",
    arch=dict(channels=channels, depths=[1, 1, 1, 1], num_columns=2),
    layer_scale_init_value=1.0,
    memory="store",
)
