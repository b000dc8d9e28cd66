"""The embedded scenes for mmdet configs; see `mmrev.ScenesDetDataset`.

mmengine refuses two bases that set the same key, and mmdet's models come with COCO.
So this file sets keys of its own, and the config beside it applies them.
"""

scenes_root = "data/scenes/"
scenes_train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="mmrev.ScenesDetDataset",
        data_root=scenes_root,
        ann_file="annotations/instances_training.json",
        data_prefix=dict(img="images/training/"),
        # No flip: a mirrored digit is another sign.
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="PackDetInputs"),
        ],
    ),
)
scenes_val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmrev.ScenesDetDataset",
        data_root=scenes_root,
        ann_file="annotations/instances_validation.json",
        data_prefix=dict(img="images/validation/"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            # Keeps the size; it adds the scale factor that mmdet's tests ask for.
            dict(type="Resize", scale_factor=1.0),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(
                type="PackDetInputs",
                meta_keys=(
                    "img_id",
                    "img_path",
                    "ori_shape",
                    "img_shape",
                    "scale_factor",
                ),
            ),
        ],
    ),
)
scenes_val_evaluator = dict(
    type="mmrev.CocoMetric",
    ann_file=scenes_root + "annotations/instances_validation.json",
)
