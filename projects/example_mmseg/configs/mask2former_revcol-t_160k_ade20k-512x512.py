"""MMSegmentation's Mask2Former with RevCol-T in the place of ResNet-50; not run."""

_base_ = ["mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py"]

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmrev.RevCol",
        arch="tiny",
        out_norm="layer_norm",
        drop_path_rate=0.1,
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
)
