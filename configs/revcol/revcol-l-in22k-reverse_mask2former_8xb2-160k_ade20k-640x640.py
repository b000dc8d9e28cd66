r"""RevCol-L (22k) in reverse mode, Mask2Former, 160k steps of ADE20K, crop 640.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-l-in22k-reverse_mask2former_8xb2-160k_ade20k-640x640.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "revcol-l-in22k_mask2former_8xb2-160k_ade20k-640x640.py"

model = dict(backbone=dict(memory="reverse"))
