"""The images of the embedded scenes, for mmpretrain configs without labels."""

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="mmrev.ScenesImages",
        data_root="data/scenes/",
        data_prefix="images/training",
        # No flip: a mirrored digit is another sign.
        pipeline=[dict(type="LoadImageFromFile"), dict(type="PackInputs")],
    ),
)
