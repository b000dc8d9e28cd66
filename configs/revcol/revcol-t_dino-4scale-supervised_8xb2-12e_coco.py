r"""RevCol-T, DINO on four scales, 12 epochs of COCO, intermediate supervision.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/revcol/revcol-t_dino-4scale-supervised_8xb2-12e_coco.py
Hardware: 8 GPUs, 2 images each. Expected: not run.
"""

_base_ = "./revcol-t_dino-4scale_8xb2-12e_coco.py"

model = dict(
    _delete_=True,
    type="mmrev.IntermediateSupervision",
    model=_base_.model,
    num_classes=80,
)
