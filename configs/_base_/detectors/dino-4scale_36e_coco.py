"""DINO on four scales, 36 epochs, steps of the RevCol detection recipe (27, 33)."""

_base_ = "./dino-4scale_12e_coco.py"

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type="MultiStepLR",
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[27, 33],
        gamma=0.1,
    )
]
