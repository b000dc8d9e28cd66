"""VanillaNet-demo, pretrained on single digits; what fades has faded after 300 steps.

Run: python tools/train.py configs/demo/vanillanet-demo_crops.py
Hardware: 2 CPU cores. Expected: 95.2 % top-1 on unseen digits and photographs.
"""

_base_ = [
    "../_base_/classifiers/demo_crops.py",
    "../_base_/backbones/vanillanet-demo.py",
]

model = dict(
    backbone=dict(out_indices=(3,), **_base_.backbone),
    head=dict(in_channels=_base_.channels[-1]),
)
custom_hooks = [dict(type="mmrev.FadeHook", end=300, by_epoch=False)]
