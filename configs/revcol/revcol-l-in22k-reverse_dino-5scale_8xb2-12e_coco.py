r"""RevCol-L (22k) in reverse mode, DINO on five scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-l-in22k-reverse_dino-5scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "revcol-l-in22k_dino-5scale_8xb2-12e_coco.py"

model = dict(backbone=dict(memory="reverse"))
