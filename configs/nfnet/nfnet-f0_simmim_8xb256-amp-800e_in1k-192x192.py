r"""NFNet-F0, 800 epochs of SimMIM on ImageNet-1k at 192 px, AdamW with AGC.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f0_simmim_8xb256-amp-800e_in1k-192x192.py
Hardware: 8 GPUs, 256 images each. Expected: not run.
"""

_base_ = [
    "../_base_/pretraining/simmim_800e_in1k-192x192.py",
    "../_base_/backbones/nfnet-f0.py",
]

backbone = dict(_base_.backbone, drop_path_rate=0.1, out_indices=(3,), init_cfg=None)
model = dict(
    backbone=dict(backbone=backbone), neck=dict(in_channels=_base_.channels[-1])
)
agc = dict(type="mmrev.AGCBFloat16OptimWrapper", clip_factor=0.01, eps=1e-3)
optim_wrapper = dict(agc, exclude=["neck.decoder.0.weight"], clip_grad=None)
