"""Configs that train and test in seconds on the data of data_layouts.py."""

from pathlib import Path

_BACKBONE = """\
backbone = dict(
    type="mmrev.RevCol",
    arch=dict(channels=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_columns=2),
    drop_path_rate=0.1,
    out_indices={levels},
    out_norm="layer_norm",
)
"""

# Of four images one cannot ask for 80 or 150 classes.
_RUNTIME = """\
absent_classes = "said"
randomness = dict(seed=3)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3))
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=1),
    checkpoint=dict(type="CheckpointHook", interval=1, by_epoch={by_epoch}),
)
train_cfg = {train_cfg}
val_cfg = dict()
test_cfg = dict()
"""

_EPOCHS = {
    "by_epoch": True,
    "train_cfg": "dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=9)",
}
_ITERATIONS = {
    "by_epoch": False,
    "train_cfg": "dict(type='IterBasedTrainLoop', max_iters=4, val_interval=9)",
}

_DETECTION = """\
default_scope = "mmdet"
{backbone}
model = dict(
    type="RetinaNet",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.7, 116.3, 103.5],
        std=[58.4, 57.1, 57.4],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=backbone,
    neck=dict(type="FPN", in_channels=[16, 24, 32], out_channels=16, num_outs=3),
    bbox_head=dict(
        type="RetinaHead",
        num_classes=80,
        in_channels=16,
        stacked_convs=1,
        feat_channels=16,
        anchor_generator=dict(
            type="AnchorGenerator", scales=[4], ratios=[1.0], strides=[8, 16, 32]
        ),
    ),
    train_cfg=dict(
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type="PseudoSampler"),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=50,
        min_bbox_size=0,
        score_thr=0.0,
        nms=dict(type="nms", iou_threshold=0.5),
        max_per_img=10,
    ),
)
load = [dict(type="LoadImageFromFile")]
pack = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor",
               "flip", "flip_direction"),
)
test_pipeline = [
    *load,
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    pack,
]
train_pipeline = [
    *load,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=(64, 64), ratio_range=(0.5, 1.5), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    pack,
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="{sampler}", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        data_root="data/coco/",
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root="data/coco/",
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric",
    ann_file="data/coco/annotations/instances_val2017.json",
    proposal_nums=(1, 10, 100),
)
test_evaluator = val_evaluator
visualizer = dict(
    type="DetLocalVisualizer",
    name="visualizer",
    vis_backends=[dict(type="LocalVisBackend")],
)
tta_model = dict(
    type="DetTTAModel",
    tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=10),
)
tta_pipeline = [
    *load,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=(64, 64), keep_ratio=True)],
            [dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)],
            [dict(type="LoadAnnotations", with_bbox=True)],
            [pack],
        ],
    ),
]
"""

_PANOPTIC = """\
_base_ = "mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py"
{backbone}
model = dict(
    backbone=dict(_delete_=True, **backbone),
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16),
    ),
    semantic_head=dict(in_channels=16, inner_channels=32),
    test_cfg=dict(
        rpn=dict(max_per_img=50),
        rcnn=dict(score_thr=0.0),
        panoptic=dict(stuff_area_limit=16),
    ),
)
# mmdet's loader of panoptic annotations needs panopticapi, and a test needs none.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmrev.CocoPanopticMetric")
test_evaluator = val_evaluator
randomness = dict(seed=3)
"""

_SEGMENTATION = """\
default_scope = "mmseg"
{backbone}
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.7, 116.3, 103.5],
        std=[58.4, 57.1, 57.4],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(64, 64),
    ),
    backbone=backbone,
    decode_head=dict(
        type="FCNHead",
        in_channels=8,
        in_index=0,
        channels=8,
        num_convs=1,
        num_classes=150,
        norm_cfg=dict(type="BN"),
    ),
    test_cfg=dict(mode="whole"),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="RandomCrop", crop_size=(64, 64)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
tta_model = dict(type="SegTTAModel")
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale_factor=r, keep_ratio=True) for r in (1.0, 1.5)],
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [dict(type="LoadAnnotations", reduce_zero_label=True)],
            [dict(type="PackSegInputs")],
        ],
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="{sampler}", shuffle=True),
    dataset=dict(
        type="ADE20KDataset",
        data_root="data/ade/ADEChallengeData2016",
        data_prefix=dict(
            img_path="images/training", seg_map_path="annotations/training"
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ADE20KDataset",
        data_root="data/ade/ADEChallengeData2016",
        data_prefix=dict(
            img_path="images/validation", seg_map_path="annotations/validation"
        ),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
visualizer = dict(
    type="SegLocalVisualizer",
    name="visualizer",
    vis_backends=[dict(type="LocalVisBackend")],
)
"""


_CLASSIFICATION = """\
default_scope = "mmpretrain"
{backbone}
model = dict(
    type="ImageClassifier",
    backbone=backbone,
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=4,
        in_channels=32,
        loss=dict(type="CrossEntropyLoss"),
    ),
)
data_preprocessor = dict(
    num_classes=4, mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], to_rgb=True
)
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64)),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="{sampler}", shuffle=True),
    dataset=dict(
        type="CustomDataset",
        data_root="data/imagenet",
        ann_file="meta/train.txt",
        data_prefix="train",
        pipeline=pipeline,
    ),
)
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CustomDataset",
        data_root="data/imagenet",
        ann_file="meta/val.txt",
        data_prefix="val",
        pipeline=pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1,))
test_evaluator = val_evaluator
visualizer = dict(
    type="UniversalVisualizer", vis_backends=[dict(type="LocalVisBackend")]
)
"""


_SIMMIM = """\
default_scope = "mmpretrain"
{backbone}
model = dict(
    type="SimMIM",
    backbone=dict(type="mmrev.MaskedBackbone", backbone=backbone),
    neck=dict(type="SimMIMLinearDecoder", in_channels=32, encoder_stride=32),
    head=dict(
        type="mmrev.SimMIMHead",
        patch_size=4,
        target_window=47,
        loss=dict(type="PixelReconstructionLoss", criterion="L1", channel=3),
    ),
)
data_preprocessor = dict(
    type="SelfSupDataPreprocessor", mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="{sampler}", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CustomDataset",
        data_root="data/imagenet/train",
        with_label=False,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(64, 64)),
            dict(type="mmrev.SimMIMMaskGenerator", input_size=64),
            dict(type="PackInputs"),
        ],
    ),
)
visualizer = dict(
    type="UniversalVisualizer", vis_backends=[dict(type="LocalVisBackend")]
)
"""


def write_detection(path: Path, loop: str = "epochs") -> Path:
    """Write a config of a RetinaNet on COCO; ``loop`` is epochs or iterations."""
    return _write(path, _DETECTION, "(1, 2, 3)", loop)


def write_panoptic(path: Path) -> Path:
    """Write a config of mmdet's panoptic FPN on COCO, for tests alone."""
    blank = _BACKBONE.replace("{levels}", "(0, 1, 2, 3)")
    path.write_text(_PANOPTIC.replace("{backbone}", blank))
    return path


def write_segmentation(path: Path, loop: str = "iterations") -> Path:
    """Write a config of a fully convolutional head on ADE20K."""
    return _write(path, _SEGMENTATION, "(0, 1, 2, 3)", loop)


def write_classification(path: Path, loop: str = "epochs") -> Path:
    """Write a config of a linear classifier on four ImageNet classes."""
    return _write(path, _CLASSIFICATION, "(3,)", loop)


def write_simmim(path: Path) -> Path:
    """Write a config of SimMIM on images of ImageNet, which nothing validates."""
    _write(path, _SIMMIM, "(3,)", "iterations")
    text = path.read_text().replace(", val_interval=9", "")
    path.write_text(text.replace("val_cfg = dict()\ntest_cfg = dict()\n", ""))
    return path


def _write(path: Path, task: str, levels: str, loop: str) -> Path:
    blanks = dict(
        backbone=_BACKBONE.replace("{levels}", levels),
        sampler={"epochs": "DefaultSampler", "iterations": "InfiniteSampler"}[loop],
        **{"epochs": _EPOCHS, "iterations": _ITERATIONS}[loop],
    )
    text = task + _RUNTIME
    for name, value in blanks.items():
        text = text.replace(f"{{{name}}}", str(value))
    path.write_text(text)
    return path
