r"""Two NFNets stitched under DINO on the embedded scenes.

Run: python tools/train.py configs/demo/stitched-demo_dino-3scale_scenes.py
The anchors start from classifiers of digits; `tools/demo.py --backbone stitched` trains
them before.
Hardware: 2 CPU cores. Expected: AP50 0.660 (small) to 0.672 (stitch 3), 0.667 (large).
"""

_base_ = [
    "../_base_/detectors/dino-3scale_demo_scenes.py",
    "../_base_/backbones/stitched-demo.py",
]

model = dict(
    backbone=dict(_delete_=True, out_indices=(1, 2, 3), **_base_.backbone),
    neck=dict(in_channels=_base_.channels[1:]),
)
custom_hooks = [dict(type="mmrev.StitchFitHook"), dict(type="mmrev.StitchSamplerHook")]
test_cfg = dict(type="mmrev.StitchTestLoop")
