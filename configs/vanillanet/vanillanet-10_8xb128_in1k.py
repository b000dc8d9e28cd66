r"""VanillaNet-10, 300 epochs of ImageNet-1k, the first 100 fading.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/vanillanet/vanillanet-10_8xb128_in1k.py
Hardware: 8 GPUs, 128 images each. Expected: 80.57 top-1
(published, arXiv 2305.12972; not run here).
"""

_base_ = [
    "../_base_/classifiers/vanillanet_300e.py",
    "../_base_/backbones/vanillanet-10.py",
]

backbone = dict(_base_.backbone, out_indices=(3,), init_cfg=None)
model = dict(backbone=dict(backbone, _delete_=True))
optim_wrapper = dict(optimizer=dict(weight_decay=0.25))
