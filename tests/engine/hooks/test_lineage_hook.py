"""What checkpoints of a training tell of where it started."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmrev.engine.hooks import LineageHook
from mmrev.errors import UserError


def runner_of(load_from, resume=False):
    cfg = Config({"model": {"type": "mmdet.DINO"}, "load_from": load_from})
    return SimpleNamespace(
        cfg=cfg, experiment_name="dino", _resume=resume, _load_from=load_from
    )


def saved(hook, runner, iteration=1):
    meta = {"epoch": 0, "iter": iteration, "seed": 1}
    hook.before_save_checkpoint(runner, checkpoint := {"meta": meta})
    return checkpoint


def test_a_resumed_run_goes_on_with_the_lineage_it_began_with(tmp_path):
    path = str(tmp_path / "released.pth")
    torch.save({"a": torch.ones(1)}, path)
    hook, runner = LineageHook(), runner_of(path)
    hook.before_train(runner)
    first = saved(hook, runner)
    (tmp_path / "released.pth").unlink()
    hook, runner = LineageHook(), runner_of("iter_1.pth", resume=True)
    hook.after_load_checkpoint(runner, first)
    hook.before_train(runner)
    second = saved(hook, runner, 2)
    (start,) = second["meta"]["lineage"]["starts"]
    assert start["name"] == "released.pth"
    told = [one["meta"].pop("lineage") for one in (first, second)]
    assert [one.pop("iterations") for one in told] == [1, 2] and told[0] == told[1]


def test_one_that_began_without_stays_without():
    hook, runner = LineageHook(), runner_of("iter_1.pth", resume=True)
    hook.after_load_checkpoint(runner, {"meta": {"iter": 1}})
    hook.before_train(runner)
    assert "lineage" not in saved(hook, runner)["meta"]


def test_a_start_that_is_gone_is_refused():
    with pytest.raises(UserError, match=r"nowhere\.pth does not exist"):
        LineageHook().before_train(runner_of("nowhere.pth"))
