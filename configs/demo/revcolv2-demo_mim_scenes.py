"""RevColV2-demo, pretrained behind a mask on the images of the training scenes.

Run: python tools/train.py configs/demo/revcolv2-demo_mim_scenes.py
Its decoder is a part of it: pixels are read off the finest level, by one convolution.
Hardware: 2 CPU cores. Expected: a loss of 0.617.
"""

_base_ = [
    "../_base_/pretraining/simmim_demo_scenes.py",
    "../_base_/backbones/revcolv2-demo.py",
]

model = dict(
    backbone=dict(
        type="mmrev.MaskedAutoencoder",
        backbone=dict(out_indices=(0,), **_base_.backbone),
    ),
    neck=dict(in_channels=_base_.channels[0], encoder_stride=4),
    head=dict(target_window=None),
)
