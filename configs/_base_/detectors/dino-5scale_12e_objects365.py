"""DINO on five scales, 12 epochs of Objects365 v2: the first of two stages to COCO."""

_base_ = ["./dino-5scale_12e_coco.py", "../datasets/objects365.py"]

model = dict(bbox_head=dict(num_classes=365))
train_dataloader = dict(dataset=_base_.objects365_train)
val_dataloader = dict(dataset=_base_.objects365_val)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=_base_.objects365_root + _base_.objects365_val_ann_file)
test_evaluator = val_evaluator
