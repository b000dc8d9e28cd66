r"""RevCol-T, Mask2Former, 160k steps of ADE20K, intermediate supervision.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-t_mask2former-supervised_8xb2-160k_ade20k-512x512.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "./revcol-t_mask2former_8xb2-160k_ade20k-512x512.py"

model = dict(
    _delete_=True,
    type="mmrev.IntermediateSupervision",
    model=_base_.model,
    num_classes=150,
)
