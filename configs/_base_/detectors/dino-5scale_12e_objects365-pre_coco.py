"""DINO on five scales, 12 epochs of COCO after Objects365, which knows its classes."""

_base_ = "./dino-5scale_12e_coco.py"

custom_hooks = [
    dict(
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
]
