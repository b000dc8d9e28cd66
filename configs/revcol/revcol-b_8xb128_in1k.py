r"""RevCol-B, 300 epochs of ImageNet-1k with intermediate supervision.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b_8xb128_in1k.py
Hardware: 8 GPUs, 128 images each. Expected: 84.1 top-1 (published; not run here).
"""

_base_ = ["../_base_/classifiers/in1k_300e.py", "../_base_/backbones/revcol-b.py"]

model = dict(
    model=dict(
        backbone=dict(
            _base_.backbone,
            _delete_=True,
            out_indices=(3,),
            drop_path_rate=0.4,
            init_cfg=None,
        ),
        neck=dict(in_channels=_base_.channels[-1]),
        head=dict(in_channels=_base_.channels[-1]),
    )
)
optim_wrapper = dict(clip_grad=dict(_delete_=True, max_norm=5.0))
cosine = dict(_base_.param_scheduler[1], eta_min=1e-8)
param_scheduler = [_base_.param_scheduler[0], cosine]
