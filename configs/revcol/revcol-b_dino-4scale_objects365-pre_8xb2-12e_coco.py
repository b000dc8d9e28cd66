r"""RevCol-B, DINO on four scales, COCO after Objects365 (stage 2 of 2).

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b_dino-4scale_objects365-pre_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = [
    "../_base_/detectors/dino-4scale_12e_objects365-pre_coco.py",
    "../_base_/backbones/revcol-b.py",
]

# All weights come from stage 1; a hook of the base turns 365 classes into COCO's 80.
load_from = "work_dirs/revcol-b_dino-4scale_8xb2-12e_objects365/epoch_12.pth"
backbone = dict(_base_.backbone, out_indices=(1, 2, 3), drop_path_rate=0.4)
model = dict(
    backbone=dict(backbone, _delete_=True, init_cfg=None),
    neck=dict(in_channels=_base_.channels[1:]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
