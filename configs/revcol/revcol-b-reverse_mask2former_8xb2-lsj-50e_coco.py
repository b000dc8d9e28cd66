r"""RevCol-B in reverse mode, Mask2Former, 50 epochs of COCO.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-b-reverse_mask2former_8xb2-lsj-50e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "revcol-b_mask2former_8xb2-lsj-50e_coco.py"

model = dict(backbone=dict(memory="reverse"))
