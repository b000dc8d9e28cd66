"""Swin-V2-demo with 4 experts, pretrained on single digits.

Run: python tools/train.py configs/demo/swinv2-moe-demo_crops.py
Hardware: 2 CPU cores. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/demo_crops.py",
    "../_base_/backbones/swinv2-moe-demo.py",
]

backbone = dict(out_indices=(3,), **_base_.backbone)
head = dict(_base_.model.head, in_channels=_base_.channels[-1])
classifier = dict(_base_.model, backbone=backbone, head=head)
model = dict(_delete_=True, type="mmrev.BalancedExperts", model=classifier)
