"""SimMIM on the images of the embedded scenes, for two CPU cores.

Patches of 16 pixels are to images of 96 what SimMIM's 32 are to 192.
"""

_base_ = ["../schedules/demo_400.py", "../datasets/scenes_images.py"]

data_preprocessor = dict(
    type="SelfSupDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
model = dict(
    type="SimMIM",
    backbone=dict(type="mmrev.MaskedBackbone"),
    neck=dict(type="SimMIMLinearDecoder", encoder_stride=32),
    head=dict(
        type="mmrev.SimMIMHead",
        patch_size=4,
        target_window=47,
        loss=dict(type="PixelReconstructionLoss", criterion="L1", channel=3),
    ),
)
mask = dict(
    type="mmrev.SimMIMMaskGenerator",
    input_size=96,
    mask_patch_size=16,
    model_patch_size=4,
    mask_ratio=0.6,
)
pipeline = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(dataset=dict(pipeline=[pipeline[0], mask, pipeline[1]]))
