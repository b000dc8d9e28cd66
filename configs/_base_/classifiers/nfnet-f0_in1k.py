"""NFNet-F0 as classifier of ImageNet-1k: trained at 192 px, tested at 256 px.

Reference: google-deepmind/deepmind-research @f5de0ed, nfnets/. It mixes one half of a
batch by mixup and the other by CutMix, before RandAugment; here each batch takes one of
them, after it. Translations are a share of the side, there 100 pixels at any size.
"""

_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/default_runtime.py",
    "../default_runtime.py",
]

model = dict(
    type="ImageClassifier",
    neck=dict(type="mmrev.NFNetPooling", in_channels=1536, dropout_rate=0.2),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=3072,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
    train_cfg=dict(
        augments=[dict(type="Mixup", alpha=0.2), dict(type="CutMix", alpha=1.0)]
    ),
)
# The reference's: each that is drawn is applied, and magnitudes may exceed level 10.
always = dict(prob=1.0)
enhance = dict(always, magnitude_range=(-0.9, 0.9), random_negative_prob=0.0)
shear = dict(always, type="Shear", magnitude_range=(0, 0.3))
translate = dict(always, type="Translate", magnitude_range=(0, 0.45))
policies = [
    dict(always, type="AutoContrast"),
    dict(always, type="Equalize"),
    dict(always, type="Invert"),
    dict(always, type="Rotate", magnitude_range=(0, 30)),
    dict(always, type="Posterize", magnitude_range=(0, 4)),
    dict(always, type="Solarize", magnitude_range=(0, 256)),
    dict(enhance, type="ColorTransform"),
    dict(enhance, type="Contrast"),
    dict(enhance, type="Brightness"),
    dict(enhance, type="Sharpness"),
    dict(shear, direction="horizontal"),
    dict(shear, direction="vertical"),
    dict(translate, direction="horizontal"),
    dict(translate, direction="vertical"),
    dict(always, type="Cutout", magnitude_range=(0, 80)),
    dict(always, type="SolarizeAdd", magnitude_range=(0, 110)),
]
augment = dict(
    type="RandAugment",
    policies=policies,
    num_policies=4,
    magnitude_level=5,
    total_level=10,
)
# The base's pipeline without random erasing. Tests squash an image to a square that is
# 32 pixels larger than the crop.
train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=192),
    _base_.train_pipeline[2],
    augment,
    _base_.train_pipeline[5],
]
squash = dict(type="Resize", backend="pillow", interpolation="bicubic")
test_pipeline = [
    _base_.test_pipeline[0],
    dict(squash, scale=(288, 288)),
    dict(_base_.test_pipeline[2], crop_size=256),
    _base_.test_pipeline[3],
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(
    checkpoint=dict(**_base_.checkpointing, save_best="accuracy/top1"),
)
