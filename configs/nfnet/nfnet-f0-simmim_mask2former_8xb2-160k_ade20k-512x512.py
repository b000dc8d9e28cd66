r"""NFNet-F0 after SimMIM, Mask2Former, 160k steps of ADE20K, crop 512.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f0-simmim_mask2former_8xb2-160k_ade20k-512x512.py
Its backbone starts from nfnet-f0_simmim_8xb256-amp-800e_in1k-192x192.py.
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "./nfnet-f0_mask2former_8xb2-160k_ade20k-512x512.py"

pretrained = "work_dirs/nfnet-f0_simmim_8xb256-amp-800e_in1k-192x192/epoch_800.pth"
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
