r"""SwinV2-MoE-S of 16 experts, DINO on four scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-s-moe16_dino-4scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-4scale_12e_coco.py",
    "../_base_/backbones/swinv2-s-moe16.py",
]

backbone = dict(_base_.backbone, out_indices=(1, 2, 3), drop_path_rate=0.3)
neck = dict(_base_.model.neck, in_channels=_base_.channels[1:])
detector = dict(_base_.model, backbone=backbone, neck=neck)
model = dict(_delete_=True, type="mmrev.BalancedExperts", model=detector)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.95))
