r"""VanillaNet-7, 300 epochs of ImageNet-1k, the first 100 fading.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/vanillanet/vanillanet-7_8xb128_in1k.py
Hardware: 8 GPUs, 128 images each. Expected: 77.98 top-1
(published, arXiv 2305.12972; not run here).
"""

_base_ = [
    "../_base_/classifiers/vanillanet_300e.py",
    "../_base_/backbones/vanillanet-7.py",
]

backbone = dict(_base_.backbone, out_indices=(3,), init_cfg=None)
model = dict(backbone=dict(backbone, _delete_=True))
optim_wrapper = dict(
    optimizer=dict(lr=4.7e-3, weight_decay=0.35), paramwise_cfg=dict(decay_rate=0.8)
)
