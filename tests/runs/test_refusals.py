"""A refused argument is told by its place in the config; a bug stays one."""

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import EpochBasedTrainLoop

from mmrev.errors import UserError
from mmrev.runs.refusals import named_refusals


class Plain:
    def __init__(self, width: int, depth: int = 1):
        pass


class Handing(Plain):
    def __init__(self, rate: float = 0.0, **kwargs):
        super().__init__(**kwargs)


class Keeping(Plain):
    """Takes no more than its own, though its base would."""

    def __init__(self, rate: float = 0.0):
        super().__init__(width=1)


class Building:
    """Hands on what it does not know, as mmcv's RandomResize does."""

    def __init__(self, ratio: float, **kwargs):
        Plain(width=1, **kwargs)


class Bare:
    pass


class Outer:
    def __init__(self, part: dict):
        MODELS.build(part)


def refused(part: dict) -> str:
    # A variable of the config's file stands before what is made of it.
    cfg = Config({"part": part, "model": {"type": Outer, "part": part}})
    with pytest.raises(UserError) as caught, named_refusals(cfg):
        MODELS.build(cfg.model)
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (
            {"type": Plain, "width": 1, "deptt": 2},
            "Plain (in Outer): unknown argument 'deptt'; did you mean 'depth'?",
        ),
        (
            {"type": Handing, "width": 1, "rat": 2},
            "Handing (in Outer): unknown argument 'rat'; did you mean 'rate'?",
        ),
        (
            {"type": Handing, "width": 1, "deptt": 2},
            "Handing (in Outer): unknown argument 'deptt'; did you mean 'depth'?",
        ),
        (
            {"type": Keeping, "width": 1},
            "Keeping (in Outer): unknown argument 'width'; expected one of: rate.",
        ),
        (
            {"type": Building, "ratio": 1, "deptt": 2},
            "Building (in Outer): unknown argument 'deptt'; expected one of: ratio.",
        ),
        (
            {"type": Bare, "width": 1},
            "Bare (in Outer): unknown argument 'width'; it takes none.",
        ),
        ({"type": Handing}, "Handing (in Outer): the config must set 'width'."),
        ({"width": 1}, "model.part of the config has no 'type' (it has: width)."),
        (
            {"type": "EvenlyPooled"},
            "unknown model type 'EvenlyPooled'; ",
        ),
    ],
)
def test_one_line(part, line):
    assert refused(part).startswith(line)


def test_a_loop_without_a_type():
    cfg = Config({"train_cfg": {"max_epoch": 2}})
    line = "EpochBasedTrainLoop: unknown argument 'max_epoch'; .* 'max_epochs'"
    with pytest.raises(UserError, match=line), named_refusals(cfg):
        EpochBasedTrainLoop(runner=None, dataloader=None, **cfg.train_cfg)


@pytest.mark.parametrize(
    "bug",
    [
        # Not in the config: the caller's mistake.
        TypeError("Plain.__init__() got an unexpected keyword argument 'deptt'"),
        TypeError("f() got an unexpected keyword argument 'width'"),
        TypeError("Plain.__init__() missing 1 required positional argument: 'width'"),
        KeyError("width"),
        KeyError(),
    ],
)
def test_a_bug_stays_one(bug):
    cfg = Config({"model": {"type": Plain, "width": 1}})
    with pytest.raises(type(bug)), named_refusals(cfg):
        raise bug


def test_what_a_builder_takes_out_before_is_not_refused():
    cfg = Config({"custom_hooks": [{"type": "EmptyCacheHook", "priority": 49}]})
    with named_refusals(cfg):
        hook = dict(cfg.custom_hooks[0])
        del hook["priority"]
        HOOKS.build(hook)
