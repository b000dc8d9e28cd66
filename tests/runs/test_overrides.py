"""``--cfg-options``: what is read, and what would be read by nobody."""

from argparse import ArgumentParser
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict

from mmrev.errors import UserError
from mmrev.runs.arguments import add_override_arguments
from mmrev.runs.overrides import override, warn_of_vain_assignments
from mmrev.runs.values import read_value

BASE = """
dataset_type = "CocoDataset"
num_classes = 3
crop_size = (64, 64)
data_root = "data/coco/"
max_epochs = 12
lr = 0.02
with_mask = False
flag = 1
crop = [dict(type="RandomCrop", crop_size=crop_size), dict(type="Pack")]
data_preprocessor = dict(type="Preprocessor", size=crop_size)
model = dict(
    type="Detector",
    data_preprocessor=data_preprocessor,
    head=dict(num_classes=num_classes, with_mask=with_mask),
)
train_dataloader = dict(
    batch_size=3,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=data_root + "a.json",
        pipeline=crop,
    ),
)
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [dict(type="MultiStepLR", end=max_epochs)]
optim_wrapper = dict(optimizer=dict(lr=lr / 2))
custom_hooks = []
"""


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / "base.py"
    path.write_text(BASE)
    return Config.fromfile(path)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        (
            "num_classes",
            "set model.head.num_classes; its value also stands at "
            "train_dataloader.batch_size.",
        ),
        (
            "crop_size",
            "set train_dataloader.dataset.pipeline.0.crop_size; its value also stands "
            "at data_preprocessor.size, model.data_preprocessor.size.",
        ),
        ("dataset_type", "set train_dataloader.dataset.type."),
        ("data_root", "set train_dataloader.dataset.data_root."),
        (
            "max_epochs",
            "set train_cfg.max_epochs; its value also stands at param_scheduler.0.end.",
        ),
        ("crop.0.crop_size", "set train_dataloader.dataset.pipeline.0.crop_size."),
        ("with_mask", "set model.head.with_mask."),
    ],
)
def test_a_variable_that_was_used_before(cfg, key, hint):
    before = cfg.to_dict()
    with pytest.raises(UserError) as caught:
        override(cfg, {key: 1})
    name = key.partition(".")[0]
    assert str(caught.value) == (
        f"--cfg-options {key}: {name} is a variable, and changing it after it was used "
        f"changes nothing; {hint}"
    )
    assert cfg.to_dict() == before


def test_a_variable_of_which_nothing_is_left(cfg):
    del cfg.optim_wrapper.optimizer["lr"]
    with pytest.raises(UserError, match="set what was made of it"):
        override(cfg, {"lr": 1})


def test_other_keys_that_nobody_reads(cfg):
    with pytest.raises(UserError, match=r"set model\.data_preprocessor\.size"):
        override(cfg, {"data_preprocessor.size": (32, 32)})
    with pytest.raises(UserError, match="launcher: the option --launcher decides"):
        override(cfg, {"launcher": "pytorch"})


def test_what_is_read(cfg):
    # A name that no file uses may be there for a hook of the user.
    override(cfg, {"flag": 2, "model.head.num_classes": 4, "train_cfg.max_epochs": 1})
    assert cfg.flag == 2
    assert cfg.model.head.num_classes == 4
    assert cfg.train_cfg.max_epochs == 1
    del cfg.model["data_preprocessor"]
    override(cfg, {"data_preprocessor.size": (32, 32)})
    assert cfg.data_preprocessor.size == (32, 32)


def test_modules_are_imported_as_those_of_the_files(cfg, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    Path(tmp_path, "imported_by_override.py").write_text("raise KeyError('was here')")
    with pytest.raises(UserError, match="was here"):
        override(cfg, {"custom_imports": {"imports": ["imported_by_override"]}})
    with pytest.raises(UserError, match="no_such_module"):
        override(cfg, {"custom_imports": {"imports": ["no_such_module"]}})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("num_classes = 5", {"num_classes"}),
        ("num_classes = 5\nmodel = dict(head=dict(num_classes=num_classes))", set()),
        # A loop of its own, a name of no base, and a base's variable that is read.
        ("mine = 5\ntrain_cfg = dict(max_epochs=1)\nflag = 2", set()),
        ("lr = _base_.lr / 2\ncrop_size = (32, 32)", {"crop_size", "lr"}),
    ],
)
def test_a_config_that_sets_what_its_base_has_used(cfg, tmp_path, text, named, capsys):
    path = tmp_path / "leaf.py"
    path.write_text(f"_base_ = 'base.py'\n{text}\n")
    warn_of_vain_assignments(Config.fromfile(path))
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(": ")[1].split(" is ")[0] for line in lines} == named
    if "num_classes" in named:
        assert lines[0].endswith("set model.head.num_classes.")


def test_no_config_of_the_suite_sets_one_in_vain(capsys):
    for path in Path(__file__).parents[2].glob("configs/*/*.py"):
        if path.parent.name == "demo":  # small, and without toolboxes' bases
            warn_of_vain_assignments(Config.fromfile(path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[{'type':'EMAHook'}]", [{"type": "EMAHook"}]),
        ("{'type': 'Pack', 'keys': ('a', 'b')}", {"type": "Pack", "keys": ("a", "b")}),
        ("[[1,2],[3,None]]", [[1, 2], [3, None]]),
        ("'a, b'", "a, b"),
        # What mmengine's short form gave before, and gives still.
        ("1,2", [1, 2]),
        ("(1,2)", (1, 2)),
        ("[a,b]", ["a", "b"]),
        ("[(a,1),true]", [("a", 1), True]),
        ("true", True),
        ("None", None),
        ("1e-3", 1e-3),
        ("010", 10),
        ("epoch_{}.pth", "epoch_{}.pth"),
        # It would take the space out of a path.
        ("/my data/coco", "/my data/coco"),
    ],
)
def test_values(text, value):
    parser = ArgumentParser()
    add_override_arguments(parser)
    found = parser.parse_args(["--cfg-options", f"a.b={text}"]).cfg_options
    assert found == {"a.b": value}
    assert type(found["a.b"]) is type(value)


@pytest.mark.parametrize(
    "text", ["[{type:EMAHook}]", "[dict(type='EMAHook')]", "dict(type='X')", "{'a':b}"]
)
def test_dicts_that_are_no_literals(text):
    with pytest.raises(UserError, match=r"expected a dict as Python's literal"):
        read_value(text)


def test_options_add_up():
    parser = ArgumentParser()
    add_override_arguments(parser)
    assert parser.parse_args([]).cfg_options is None
    several = ["--cfg-options", "a=1", "b.c=x=y", "--cfg-options", "a=2"]
    assert parser.parse_args(several).cfg_options == {"a": 2, "b.c": "x=y"}


def test_dicts_in_lists_are_as_those_of_the_files(cfg):
    override(cfg, {"custom_hooks": [{"type": "EMAHook"}]})
    assert isinstance(cfg.custom_hooks[0], ConfigDict)
    assert cfg.custom_hooks[0].type == "EMAHook"
