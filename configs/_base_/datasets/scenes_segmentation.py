"""The embedded scenes for mmseg configs; see `mmrev.ScenesSegDataset`.

Keys of its own for the reason given in scenes_detection.py.
"""

scenes_root = "data/scenes/"
scenes_train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmrev.ScenesSegDataset",
        data_root=scenes_root,
        data_prefix=dict(
            img_path="images/training", seg_map_path="annotations/training"
        ),
        # No flip: a mirrored digit is another sign.
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
scenes_val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmrev.ScenesSegDataset",
        data_root=scenes_root,
        data_prefix=dict(
            img_path="images/validation", seg_map_path="annotations/validation"
        ),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
