r"""RevCol-H of MegData, 20 epochs of ImageNet-1k at 640 px.

Run: torchrun --nnodes 8 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-h_64xb16-20e_in1k-640px.py
Hardware: 64 GPUs, 16 images each. Expected: 90.0 top-1
(published, arXiv 2212.11696; not run here).
"""

_base_ = [
    "../_base_/classifiers/revcol-h_20e.py",
    "../_base_/datasets/imagenet_640.py",
    "../_base_/backbones/revcol-h.py",
]

backbone = dict(_base_.backbone, out_indices=(3,), drop_path_rate=0.4)
model = dict(
    backbone=dict(backbone, _delete_=True),
    neck=dict(in_channels=_base_.channels[-1]),
    head=dict(in_channels=_base_.channels[-1]),
)
train_dataloader = dict(batch_size=16)
