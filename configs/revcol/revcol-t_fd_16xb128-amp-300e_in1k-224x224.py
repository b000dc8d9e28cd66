r"""RevCol-T, 300 epochs of ImageNet-1k by the features of RevCol-B.

Run: torchrun --nproc-per-node 16 tools/train.py --launcher pytorch \
    configs/revcol/revcol-t_fd_16xb128-amp-300e_in1k-224x224.py
Hardware: 16 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/pretraining/fd_300e_in1k-224x224.py",
    "../_base_/backbones/revcol-t.py",
]

larger = dict(
    type="mmrev.RevCol",
    arch="base",
    out_indices=(3,),
    init_cfg=dict(type="Pretrained", checkpoint="data/pretrained/revcol_base_1k.pth"),
)
student = dict(_base_.backbone, out_indices=(3,), init_cfg=None)
sides = dict(in_channels=[512], out_channels=[576])
model = dict(model=dict(backbone=student), teacher=larger, **sides)
