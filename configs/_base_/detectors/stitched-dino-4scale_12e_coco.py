"""DINO on four scales over a stitched backbone, 12 epochs of COCO at batch 16."""

_base_ = ["./dino-4scale_12e_coco.py", "../stitching.py"]

optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0, custom_keys=_base_.stitch_keys))
custom_hooks = _base_.stitch_hooks
test_cfg = _base_.stitch_test
