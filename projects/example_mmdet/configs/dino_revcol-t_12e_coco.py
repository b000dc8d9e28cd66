"""MMDetection's DINO with RevCol-T in the place of ResNet-50; not run."""

_base_ = ["mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py"]

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmrev.RevCol",
        arch="tiny",
        out_indices=(1, 2, 3),
        out_norm="layer_norm",
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[128, 256, 512]),
)
