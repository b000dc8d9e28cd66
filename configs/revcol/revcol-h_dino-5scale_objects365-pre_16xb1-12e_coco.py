r"""RevCol-H, DINO on five scales, COCO after Objects365 (stage 2 of 2).

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-h_dino-5scale_objects365-pre_16xb1-12e_coco.py
Hardware: 16 GPUs, 1 image each. Expected: not run
(63.8 box AP published for DINO after Objects365, settings not published).
"""

_base_ = [
    "../_base_/detectors/dino-5scale_12e_objects365-pre_coco.py",
    "../_base_/backbones/revcol-h.py",
]

# All weights come from stage 1; a hook of the base turns 365 classes into COCO's 80.
load_from = "work_dirs/revcol-h_dino-5scale_16xb1-12e_objects365/epoch_12.pth"
model = dict(
    backbone=dict(_delete_=True, drop_path_rate=0.5, type="mmrev.RevCol", arch="huge"),
    neck=dict(in_channels=_base_.channels),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
train_dataloader = dict(batch_size=1)
