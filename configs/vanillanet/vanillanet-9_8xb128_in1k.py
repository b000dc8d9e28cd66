r"""VanillaNet-9, 300 epochs of ImageNet-1k, the first 100 fading.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/vanillanet/vanillanet-9_8xb128_in1k.py
Hardware: 8 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/in1k_300e_lamb.py",
    "../_base_/backbones/vanillanet-9.py",
]

model = dict(
    backbone=dict(_base_.backbone, _delete_=True, out_indices=(3,), init_cfg=None),
    head=dict(in_channels=_base_.channels[-1]),
    train_cfg=dict(
        augments=[dict(type="Mixup", alpha=0.4), dict(type="CutMix", alpha=1.0)]
    ),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.3))
custom_hooks = [*_base_.custom_hooks, dict(type="mmrev.FadeHook", end=100)]
