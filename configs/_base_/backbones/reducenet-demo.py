"""A ReduceNet of 8 blocks and 2.7 M parameters that two CPU cores train in minutes."""

channels = [32, 64, 128, 256]
backbone = dict(
    type="mmrev.ReduceNet",
    arch=dict(channels=channels, depths=[2, 2, 2, 2], expansion=2),
)
