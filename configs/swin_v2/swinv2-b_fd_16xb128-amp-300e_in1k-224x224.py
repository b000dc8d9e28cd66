r"""Swin-V2-B, 300 epochs of ImageNet-1k by the features of Swin-V2-B of ImageNet-22k.

Run: torchrun --nproc-per-node 16 tools/train.py --launcher pytorch \
    configs/swin_v2/swinv2-b_fd_16xb128-amp-300e_in1k-224x224.py
Hardware: 16 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/pretraining/fd_300e_in1k-224x224.py",
    "../_base_/backbones/swinv2-b-in22k.py",
]

trained = dict(_base_.backbone, out_indices=(3,))
student = dict(
    trained,
    window_size=(14, 14, 14, 7),
    pretrained_window_sizes=0,
    position_bias="stage",
    drop_path_rate=0.3,
    init_cfg=None,
)
sides = dict(in_channels=[1024], out_channels=[1024])
model = dict(model=dict(backbone=student), teacher=trained, **sides)
