r"""RevCol-B of ImageNet-22k, 30 epochs of ImageNet-1k at 384 px.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b-in22k_16xb64-30e_in1k-384px.py
Hardware: 16 GPUs, 64 images each. Expected: 86.7 top-1
(published, arXiv 2212.11696; not run here).
"""

_base_ = [
    "../_base_/classifiers/revcol_30e.py",
    "../_base_/datasets/imagenet_384.py",
    "../_base_/backbones/revcol-b-in22k.py",
]

backbone = dict(_base_.backbone, out_indices=(3,), drop_path_rate=0.2)
model = dict(
    backbone=dict(backbone, _delete_=True),
    neck=dict(in_channels=_base_.channels[-1]),
    head=dict(in_channels=_base_.channels[-1]),
)
