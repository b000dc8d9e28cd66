r"""NFNet-F0, 360 epochs of ImageNet-1k by sharpness-aware SGD, as NFNet-F6 was trained.

Run: torchrun --nnodes 4 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f0_sam_32xb128_in1k.py
Hardware: 32 GPUs, 128 images each. Expected: not run.
"""

_base_ = "./nfnet-f0_32xb128_in1k.py"

optim_wrapper = dict(type="mmrev.SAMBFloat16OptimWrapper", rho=0.05)
