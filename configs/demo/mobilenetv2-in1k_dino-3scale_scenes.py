"""MobileNetV2 with ImageNet weights under DINO on the embedded scenes.

Run: python tools/train.py configs/demo/mobilenetv2-in1k_dino-3scale_scenes.py
configs/suites/real_weights.yaml runs it frozen, tuned and from scratch.
Hardware: 2 CPU cores. Expected: AP times 100 at half of this length, three
seeds: 28.3 frozen, 38.8 tuned, 6.8 from scratch.
"""

_base_ = [
    "../_base_/detectors/dino-3scale_demo_scenes.py",
    "../_base_/backbones/mobilenetv2.py",
]

model = dict(
    backbone=dict(_delete_=True, **{**_base_.backbone, "out_indices": (2, 3, 4)}),
    neck=dict(in_channels=_base_.channels[1:]),
)
