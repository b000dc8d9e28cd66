r"""Two NFNets stitched under Mask2Former on the embedded scenes.

Run: python tools/train.py configs/demo/stitched-demo_mask2former_scenes.py
The backbone starts from the detector's, stitched-demo_dino-3scale_scenes.py.
Hardware: 2 CPU cores. Expected: mIoU 79.26 (small) to 80.16 (stitch 3), 77.28 (large).
"""

_base_ = [
    "../_base_/segmentors/mask2former_demo_scenes.py",
    "../_base_/backbones/stitched-demo.py",
]

pretrained = "work_dirs/demo-stitched/dino/epoch_4.pth"
start = dict(type="Pretrained", checkpoint=pretrained, prefix="backbone.")
model = dict(
    backbone=dict(_delete_=True, init_cfg=start, **_base_.backbone),
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
custom_hooks = [dict(type="mmrev.StitchSamplerHook")]
test_cfg = dict(type="mmrev.StitchTestLoop")
