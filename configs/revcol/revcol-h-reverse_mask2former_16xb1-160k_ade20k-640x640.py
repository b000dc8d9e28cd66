r"""RevCol-H in reverse mode, Mask2Former, 160k steps of ADE20K, crop 640.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-h-reverse_mask2former_16xb1-160k_ade20k-640x640.py
Hardware: 16 GPUs, 1 image each. Expected: not run.
"""

_base_ = "revcol-h_mask2former_16xb1-160k_ade20k-640x640.py"

model = dict(backbone=dict(memory="reverse"))
