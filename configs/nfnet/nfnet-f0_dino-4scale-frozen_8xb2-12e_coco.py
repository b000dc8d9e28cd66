r"""NFNet-F0, frozen, DINO 4-scale, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f0_dino-4scale-frozen_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "./nfnet-f0_dino-4scale_8xb2-12e_coco.py"

track = "frozen"
