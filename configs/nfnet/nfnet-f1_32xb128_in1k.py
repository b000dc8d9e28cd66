r"""NFNet-F1, 360 epochs of ImageNet-1k by SGD with adaptive gradient clipping.

Run: torchrun --nnodes 4 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f1_32xb128_in1k.py
Hardware: 32 GPUs, 128 images each. Expected: 84.7 top-1
(published, arXiv 2102.06171; not run here).
"""

_base_ = [
    "../_base_/classifiers/nfnet-f1_in1k.py",
    "../_base_/schedules/sgd-agc_360e.py",
    "../_base_/backbones/nfnet-f1.py",
]

backbone = dict(_base_.backbone, memory="store", init_cfg=None)
model = dict(backbone=dict(out_indices=(3,), drop_path_rate=0.25, **backbone))
