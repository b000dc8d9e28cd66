"""EfficientNet-Lite0 with ImageNet weights under Mask2Former on the embedded scenes.

Run: python tools/train.py configs/demo/efficientnet-lite0-in1k_mask2former_scenes.py
configs/suites/real_weights.yaml runs it frozen, tuned and from scratch.
Hardware: 2 CPU cores. Expected: mIoU at half of this length, three seeds:
55.4 frozen, 68.3 tuned, 15.4 from scratch.
"""

_base_ = [
    "../_base_/segmentors/mask2former_demo_scenes.py",
    "../_base_/backbones/efficientnet-lite0.py",
]

model = dict(
    data_preprocessor=_base_.pixels,
    backbone=dict(_delete_=True, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
# Of timm, whose backbones do not say how deep a layer is.
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
