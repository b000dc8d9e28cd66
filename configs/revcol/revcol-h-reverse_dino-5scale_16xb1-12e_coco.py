r"""RevCol-H in reverse mode, DINO on five scales, 12 epochs of COCO.

Run: torchrun --nnodes 2 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-h-reverse_dino-5scale_16xb1-12e_coco.py
Hardware: 16 GPUs, 1 image each. Expected: not run.
"""

_base_ = "revcol-h_dino-5scale_16xb1-12e_coco.py"

model = dict(backbone=dict(memory="reverse"))
