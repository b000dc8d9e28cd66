r"""Swin-V2-demo with 4 experts under DINO on the embedded scenes.

Run: python tools/train.py configs/demo/swinv2-moe-demo_dino-3scale_scenes.py
Its backbone starts from the classifier of digits, swinv2-moe-demo_crops.py.
Hardware: 2 CPU cores. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-3scale_demo_scenes.py",
    "../_base_/backbones/swinv2-moe-demo.py",
]

pretrained = "work_dirs/demo-swinv2-moe/crops/iter_400.pth"
init_cfg = dict(type="Pretrained", checkpoint=pretrained)
backbone = dict(_base_.backbone, out_indices=(1, 2, 3), init_cfg=init_cfg)
neck = dict(_base_.model.neck, in_channels=_base_.channels[1:])
detector = dict(_base_.model, backbone=backbone, neck=neck)
model = dict(_delete_=True, type="mmrev.BalancedExperts", model=detector)
