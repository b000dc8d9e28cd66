r"""RevCol-B in reverse mode, Mask2Former, 160k steps of ADE20K, crop 512.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b-reverse_mask2former_8xb2-160k_ade20k-512x512.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "revcol-b_mask2former_8xb2-160k_ade20k-512x512.py"

model = dict(backbone=dict(memory="reverse"))
