"""EfficientNet-Lite0 with ImageNet weights under DINO on the embedded scenes.

Run: python tools/train.py configs/demo/efficientnet-lite0-in1k_dino-3scale_scenes.py
configs/suites/real_weights.yaml runs it frozen, tuned and from scratch.
Hardware: 2 CPU cores. Expected: AP times 100 at half of this length, three
seeds: 33.3 frozen, 30.6 tuned, 6.5 from scratch.
"""

_base_ = [
    "../_base_/detectors/dino-3scale_demo_scenes.py",
    "../_base_/backbones/efficientnet-lite0.py",
]

model = dict(
    data_preprocessor=_base_.pixels,
    backbone=dict(_delete_=True, **{**_base_.backbone, "out_indices": (2, 3, 4)}),
    neck=dict(in_channels=_base_.channels[1:]),
)
