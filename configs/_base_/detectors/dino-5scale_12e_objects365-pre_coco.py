"""DINO on five scales, 12 epochs of COCO after Objects365, which knows its classes."""

_base_ = ["./dino-5scale_12e_coco.py", "../datasets/objects365.py"]

custom_hooks = [_base_.objects365_to_coco]
