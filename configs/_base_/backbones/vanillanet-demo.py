"""A VanillaNet of 6 blocks and 2.3 M parameters that two CPU cores train in minutes."""

channels = [64, 128, 256, 896]
backbone = dict(
    type="mmrev.VanillaNet",
    arch=dict(channels=[64, 64, 128, 256, 256, 896, 896], strides=[1, 2, 2, 1, 2, 1]),
)
