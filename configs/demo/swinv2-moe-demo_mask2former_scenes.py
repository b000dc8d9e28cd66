r"""Swin-V2-demo with 4 experts under Mask2Former on the embedded scenes.

Run: python tools/train.py configs/demo/swinv2-moe-demo_mask2former_scenes.py
Its backbone starts from the detector's, swinv2-moe-demo_dino-3scale_scenes.py.
Hardware: 2 CPU cores. Expected: not run.
"""

_base_ = [
    "../_base_/segmentors/mask2former_demo_scenes.py",
    "../_base_/backbones/swinv2-moe-demo.py",
]

pretrained = "work_dirs/demo-swinv2-moe/dino/epoch_4.pth"
init_cfg = dict(type="Pretrained", checkpoint=pretrained)
head = dict(_base_.model.decode_head, in_channels=_base_.channels)
auxiliary_head = dict(_base_.model.auxiliary_head, in_channels=_base_.channels[1])
segmentor = dict(
    _base_.model,
    backbone=dict(_base_.backbone, init_cfg=init_cfg),
    decode_head=head,
    auxiliary_head=auxiliary_head,
)
model = dict(_delete_=True, type="mmrev.BalancedExperts", model=segmentor)
