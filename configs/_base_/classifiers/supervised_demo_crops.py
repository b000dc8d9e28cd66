"""A classifier of digit crops with intermediate supervision, for two CPU cores."""

_base_ = ["./demo_crops.py"]

model = dict(
    _delete_=True,
    type="mmrev.IntermediateSupervision",
    model=_base_.model,
    num_classes=_base_.num_classes,
)
