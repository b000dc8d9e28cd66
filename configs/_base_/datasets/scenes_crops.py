"""Single digits on photographs, composed on the fly, for mmpretrain configs."""

dataset_type = "mmrev.DigitCrops"
crop_size = 48

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        split="training",
        size=crop_size,
        num_rounds=16,
        pipeline=[dict(type="PackInputs")],
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        split="validation",
        size=crop_size,
        pipeline=[dict(type="PackInputs")],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1,))
test_evaluator = val_evaluator
