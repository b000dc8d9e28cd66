r"""RevCol-B, 90 epochs of ImageNet-22k with intermediate supervision.

Run: torchrun --nnodes 4 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b_32xb128-90e_in22k.py
Hardware: 32 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/revcol_90e.py",
    "../_base_/datasets/imagenet_22k.py",
    "../_base_/backbones/revcol-b.py",
]

width = _base_.channels[-1]
start = dict(out_indices=(3,), drop_path_rate=0.3, init_cfg=None)
model = dict(
    model=dict(
        backbone=dict(dict(_base_.backbone, **start), _delete_=True),
        neck=dict(in_channels=width),
        head=dict(in_channels=width),
    )
)
