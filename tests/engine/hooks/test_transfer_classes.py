"""The class layers of a second training stage."""

from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from mmdet.datasets import CocoDataset, Objects365V2Dataset
from mmengine.registry import DATASETS
from torch import nn

from mmrev.engine.hooks.transfer_classes import TransferClassesHook
from mmrev.errors import UserError

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


@DATASETS.register_module()
class Before(CocoDataset):
    METAINFO: ClassVar = {"classes": ("a", "b", "c")}


@DATASETS.register_module()
class After(CocoDataset):
    METAINFO: ClassVar = {"classes": ("b", "a", "c")}


def runner(model, resume=False, train_loop="one"):
    logger = SimpleNamespace(info=lambda text: None)
    return SimpleNamespace(
        model=model, _resume=resume, _train_loop=train_loop, logger=logger
    )


def test_rows_follow_the_new_classes():
    hook = TransferClassesHook(**STAGES, renamed=RENAMED)
    model = nn.ModuleDict({"cls": nn.Linear(4, 80), "other": nn.Linear(4, 365)})
    old = nn.ModuleDict({"cls": nn.Linear(4, 365), "other": nn.Linear(4, 365)})
    checkpoint = {"state_dict": dict(old.state_dict())}
    hook.after_load_checkpoint(runner(model), checkpoint)
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
    hook.after_load_checkpoint(runner(model), checkpoint)
    assert all(checkpoint["state_dict"][k] is v for k, v in weights.items())


def test_names_the_classes_without_counterpart():
    with pytest.raises(ValueError, match="got none for bird, handbag"):
        TransferClassesHook(**STAGES, renamed={})


class Swapped(nn.Module):
    """A head with a row for no object, a classifier, and layers of as many rows."""

    def __init__(self):
        super().__init__()
        self.cls_embed = nn.Linear(4, 4)
        self.conv_seg = nn.Conv2d(4, 3, 1)
        self.neck = nn.Linear(4, 3)
        self.cls_convs = nn.Linear(4, 8)


def test_as_many_classes_in_another_order():
    hook = TransferClassesHook("Before", "After", renamed={})
    old = Swapped()
    for meta in ({}, {"dataset_meta": {"classes": ["a", "b", "c"]}}):
        checkpoint = {"state_dict": old.state_dict(), "meta": meta}
        hook.after_load_checkpoint(runner(Swapped()), checkpoint)
        found = checkpoint["state_dict"]
        for name, weight in old.state_dict().items():
            order = {"cls_embed": [1, 0, 2, 3], "conv_seg": [1, 0, 2]}
            rows = order.get(name.partition(".")[0], slice(None))
            assert torch.equal(found[name], weight[rows]), name


@pytest.mark.parametrize(
    ("meta", "settings"),
    [
        ({"dataset_meta": {"classes": ["b", "a", "c"]}}, {}),
        ({}, {"resume": True}),
        ({"dataset_meta": {"classes": ["a", "b", "c"]}}, {"resume": True}),
        ({}, {"train_loop": None}),
    ],
)
def test_what_has_the_new_order_is_left_alone(meta, settings):
    hook = TransferClassesHook("Before", "After", renamed={})
    weights = Swapped().state_dict()
    checkpoint = {"state_dict": dict(weights), "meta": meta}
    hook.after_load_checkpoint(runner(Swapped(), **settings), checkpoint)
    assert all(checkpoint["state_dict"][k] is v for k, v in weights.items())


def test_a_row_for_no_object_stays_the_last():
    hook = TransferClassesHook(**STAGES, renamed=RENAMED)
    old, model = nn.Linear(4, 366), nn.Linear(4, 81)
    checkpoint = {"state_dict": dict(old.state_dict())}
    hook.after_load_checkpoint(runner(model), checkpoint)
    expected = old.weight[[*hook.rows, 365]]
    assert torch.equal(checkpoint["state_dict"]["weight"], expected)


def test_classes_of_neither_data_set_are_refused():
    hook = TransferClassesHook("Before", "After", renamed={})
    meta = {"dataset_meta": {"classes": ["c", "b", "a"]}}
    with pytest.raises(UserError, match="one of 3 others, 'c' first; set `source`"):
        hook.after_load_checkpoint(runner(Swapped()), {"meta": meta, "state_dict": {}})
