r"""NFNet-F5, 360 epochs of ImageNet-1k by SGD with adaptive gradient clipping.

Run: torchrun --nnodes 16 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f5_128xb32_in1k.py
Hardware: 128 GPUs, 32 images each. Expected: 86.0 top-1
(published, arXiv 2102.06171; not run here).
"""

_base_ = [
    "../_base_/classifiers/nfnet-f5_in1k.py",
    "../_base_/schedules/sgd-agc_360e.py",
    "../_base_/backbones/nfnet-f5.py",
]

backbone = dict(_base_.backbone, init_cfg=None)
model = dict(backbone=dict(out_indices=(3,), drop_path_rate=0.25, **backbone))
