"""The class layers of a second training stage."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.datasets import CocoDataset, Objects365V2Dataset
from torch import nn

from mmrev.engine.hooks.transfer_classes import TransferClassesHook

STAGES = dict(source="mmdet.Objects365V2Dataset", target="mmdet.CocoDataset")
RENAMED = {
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
}


def test_rows_follow_the_new_classes():
    hook = TransferClassesHook(**STAGES, renamed=RENAMED)
    model = nn.ModuleDict({"cls": nn.Linear(4, 80), "other": nn.Linear(4, 365)})
    old = nn.ModuleDict({"cls": nn.Linear(4, 365), "other": nn.Linear(4, 365)})
    checkpoint = {"state_dict": dict(old.state_dict())}
    hook.after_load_checkpoint(SimpleNamespace(model=model), checkpoint)
    model.load_state_dict(checkpoint["state_dict"])

    coco = CocoDataset.METAINFO["classes"]
    objects365 = Objects365V2Dataset.METAINFO["classes"]
    for name, counterpart in [("person", "Person"), ("toothbrush", "Toothbrush")] + [
        (name, RENAMED[name]) for name in RENAMED
    ]:
        row, source = coco.index(name), objects365.index(counterpart)
        assert torch.equal(model["cls"].weight[row], old["cls"].weight[source])
        assert torch.equal(model["cls"].bias[row], old["cls"].bias[source])
    assert torch.equal(model["other"].weight, old["other"].weight)
    assert len(set(hook.rows)) == len(coco)


def test_leaves_a_fitting_checkpoint_alone():
    hook = TransferClassesHook(**STAGES, renamed=RENAMED)
    model = nn.Linear(4, 80)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint = {"state_dict": dict(weights)}
    hook.after_load_checkpoint(SimpleNamespace(model=model), checkpoint)
    assert all(checkpoint["state_dict"][k] is v for k, v in weights.items())


def test_names_the_classes_without_counterpart():
    with pytest.raises(ValueError, match="got none for bird, handbag"):
        TransferClassesHook(**STAGES, renamed={})
