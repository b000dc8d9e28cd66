"""NFNet-demo under DINO with half the steps, to compare stitches with.

Run: python tools/train.py configs/demo/nfnet-half-demo_dino-3scale-2e_scenes.py
Hardware: 2 CPU cores. Expected: AP50 0.792.
"""

_base_ = ["./nfnet-demo_dino-3scale_scenes.py"]

max_epochs = 2
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
    dict(
        type="CosineAnnealingLR",
        T_max=max_epochs,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
