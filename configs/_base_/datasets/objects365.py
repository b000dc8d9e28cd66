"""Objects365 v2 for mmdet configs, and its classes among COCO's.

mmengine refuses two bases that set the same key, and mmdet's models come with COCO.
So this file sets keys of its own, and the config beside it applies them.
"""

objects365_root = "data/Objects365/Obj365_v2/"
objects365_val_ann_file = "annotations/zhiyuan_objv2_val.json"
objects365_train = dict(
    type="Objects365V2Dataset",
    data_root=objects365_root,
    ann_file="annotations/zhiyuan_objv2_train.json",
    data_prefix=dict(img="train/"),
)
objects365_val = dict(
    type="Objects365V2Dataset",
    data_root=objects365_root,
    ann_file=objects365_val_ann_file,
    data_prefix=dict(img="val/"),
)
objects365_to_coco = dict(
    type="mmrev.TransferClassesHook",
    source="mmdet.Objects365V2Dataset",
    target="mmdet.CocoDataset",
    renamed={
        "bird": "Wild Bird",
        "handbag": "Handbag/Satchel",
        "suitcase": "Luggage",
        "skis": "Skiboard",
        "sports ball": "Other Balls",
        "bowl": "Bowl/Basin",
        "orange": "Orange/Tangerine",
        "dining table": "Dinning Table",
        "tv": "Moniter/TV",
        "teddy bear": "Stuffed Toy",
        "hair drier": "Hair Dryer",
    },
)
