"""A RevCol of 3 columns and 2.7 M parameters that two CPU cores train in minutes.

``memory="store"`` is the fastest mode; 96-pixel images need no memory saved. The layer
scale starts at 1: from 1e-6 the blocks would still be asleep after a short schedule.
"""

channels = [32, 64, 128, 256]
backbone = dict(
    type="mmrev.RevCol",
    arch=dict(channels=channels, depths=[1, 1, 1, 1], num_columns=3),
    layer_scale_init_value=1.0,
    memory="store",
)
