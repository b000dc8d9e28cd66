"""DINO on five scales, 12 epochs of Objects365 v2: the first of two stages to COCO."""

_base_ = "./dino-5scale_12e_coco.py"

dataset_type = "Objects365V2Dataset"
data_root = "data/Objects365/Obj365_v2/"
val_ann_file = "annotations/zhiyuan_objv2_val.json"

model = dict(bbox_head=dict(num_classes=365))
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="annotations/zhiyuan_objv2_train.json",
        data_prefix=dict(img="train/"),
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=val_ann_file,
        data_prefix=dict(img="val/"),
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_ann_file)
test_evaluator = val_evaluator
