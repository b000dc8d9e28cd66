"""A classifier of digit crops in several sizes, whose loss is fitted against compute.

Batches of 32: with those of the demo, small sizes would wait for their images. The
length of the training is part of the compute, and is configs/suites/scaling.yaml's.
"""

_base_ = ["./demo_crops.py"]

train_dataloader = dict(batch_size=32)
test_evaluator = [
    dict(type="Accuracy", topk=(1,)),
    dict(type="mmrev.CrossEntropyMetric"),
]
val_evaluator = test_evaluator
