r"""RevCol-B in reverse mode, DINO on four scales, 12 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b-reverse_dino-4scale_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "revcol-b_dino-4scale_8xb2-12e_coco.py"

model = dict(backbone=dict(memory="reverse"))
