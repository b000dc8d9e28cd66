r"""ReduceNet-50, 300 epochs of ImageNet-1k, the first 250 fading.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/reducenet/reducenet-50_8xb128_in1k.py
Hardware: 8 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/in1k_300e_lamb.py",
    "../_base_/backbones/reducenet-50.py",
]

model = dict(
    backbone=dict(
        _base_.backbone,
        _delete_=True,
        out_indices=(3,),
        init_cfg=None,
        drop_path_rate=0.2,
    ),
    head=dict(in_channels=_base_.channels[-1]),
)
fade = dict(type="mmrev.FadeHook", end=250, curve="cosine")
custom_hooks = [*_base_.custom_hooks, fade]
