r"""NFNet-F0, 300 epochs of ImageNet-1k by the features of NFNet-F3, by AdamW.

Run: torchrun --nproc-per-node 16 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f0_fd_16xb128-amp-300e_in1k-224x224.py
Hardware: 16 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/pretraining/fd_300e_in1k-224x224.py",
    "../_base_/backbones/nfnet-f0.py",
]

larger = dict(
    type="mmrev.NFNet",
    arch="F3",
    out_indices=(3,),
    init_cfg=dict(
        type="Pretrained", checkpoint="data/pretrained/dm_nfnet_f3-d74ab3aa.pth"
    ),
)
student = dict(_base_.backbone, out_indices=(3,), init_cfg=None)
sides = dict(in_channels=[1536], out_channels=[1536])
model = dict(model=dict(backbone=student), teacher=larger, **sides)
