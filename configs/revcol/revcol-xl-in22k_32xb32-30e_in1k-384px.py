r"""RevCol-XL of ImageNet-22k, 30 epochs of ImageNet-1k at 384 px.

Run: torchrun --nnodes 4 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-xl-in22k_32xb32-30e_in1k-384px.py
Hardware: 32 GPUs, 32 images each. Expected: 88.2 top-1
(published, arXiv 2212.11696; not run here).
"""

_base_ = [
    "../_base_/classifiers/revcol-xl_30e.py",
    "../_base_/datasets/imagenet_384.py",
    "../_base_/backbones/revcol-xl-in22k.py",
]

backbone = dict(_base_.backbone, out_indices=(3,), drop_path_rate=0.4)
model = dict(
    backbone=dict(backbone, _delete_=True),
    neck=dict(in_channels=_base_.channels[-1]),
    head=dict(in_channels=_base_.channels[-1]),
)
train_dataloader = dict(batch_size=32)
