r"""NFNet-F7+ of JFT-4B, 50 epochs of ImageNet-1k at 384 px, tested at 480 px.

Run: torchrun --nnodes 16 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f7plus_128xb16-50e_in1k-384px.py
Hardware: 128 GPUs, 16 images each. Expected: not run.
(90.3 top-1 published, arXiv 2310.16764, whose weights and learning rate are not.)
"""

_base_ = [
    "../_base_/classifiers/nfnet-f7plus_50e_in1k.py",
    "../_base_/backbones/nfnet-f7plus.py",
]

model = dict(
    backbone=dict(out_indices=(3,), drop_path_rate=0.25, **_base_.backbone),
)
