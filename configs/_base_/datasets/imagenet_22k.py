"""ImageNet-22k at 224 px: 21,841 classes, validated on images of your own choice.

mmpretrain's config has one class more, little augmentation and no validation.
"""

_base_ = ["mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py"]

data_classes = 21841
data_preprocessor = dict(num_classes=data_classes)
files = dict(type="ImageNet21k", data_root="data/imagenet21k")
train_dataloader = dict(batch_size=128, dataset=dict(**files, split="train"))
val_dataloader = dict(
    dataset=dict(**files, split="", data_prefix="val", ann_file="meta/val.txt")
)
test_dataloader = val_dataloader
