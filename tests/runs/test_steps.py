"""The edits of a config, of --amp, --tta and --out."""

from argparse import Namespace

import pytest
import torch
from mmengine.config import Config

from mmrev.errors import UserError
from mmrev.registry import OPTIM_WRAPPERS
from mmrev.runs.steps import (
    divide_experts,
    dump_predictions,
    shard,
    use_amp,
    use_tta,
)


@pytest.mark.parametrize(
    ("given", "on_gpu", "expected"),
    [
        ("OptimWrapper", True, "AmpOptimWrapper"),
        ("OptimWrapper", False, "mmrev.BFloat16OptimWrapper"),
        ("mmrev.AGCOptimWrapper", True, "mmrev.AGCAmpOptimWrapper"),
        ("mmrev.AGCOptimWrapper", False, "mmrev.AGCBFloat16OptimWrapper"),
        ("mmrev.SAMOptimWrapper", True, "mmrev.SAMAmpOptimWrapper"),
        ("mmrev.SAMOptimWrapper", False, "mmrev.SAMBFloat16OptimWrapper"),
        ("AmpOptimWrapper", False, "AmpOptimWrapper"),
        ("mmrev.AGCAmpOptimWrapper", False, "mmrev.AGCAmpOptimWrapper"),
    ],
)
def test_half_precision_form_of_the_wrapper(given, on_gpu, expected, monkeypatch):
    cfg = Config({"optim_wrapper": {"type": given}})
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: on_gpu)
        use_amp(cfg, Namespace(amp=True))
    assert cfg.optim_wrapper.type == expected
    assert OPTIM_WRAPPERS.get(expected) is not None
    assert ("loss_scale" in cfg.optim_wrapper) == (on_gpu and given != expected)


def test_others_have_none():
    cfg = Config({"optim_wrapper": {"type": "ApexOptimWrapper"}})
    with pytest.raises(UserError, match=r"--amp: expected .*got ApexOptimWrapper"):
        use_amp(cfg, Namespace(amp=True))


def test_every_joined_data_set_gets_the_pipeline_and_gives_its_root():
    def cfg(*roots):
        sets = [{"type": "A", "data_root": root, "pipeline": ["a"]} for root in roots]
        repeated = {"type": "RepeatDataset", "dataset": sets.pop(), "times": 2}
        joined = {"type": "ConcatDataset", "datasets": [*sets, repeated]}
        loader = {"dataset": {"type": "Outer", "dataset": joined}}
        return Config(
            {
                "test_dataloader": loader,
                "test_evaluator": {"type": "IoUMetric"},
                "model": {"type": "M"},
                "tta_model": {"type": "T"},
                "tta_pipeline": ["b"],
            }
        )

    changed = cfg("x", "y", "x")
    use_tta(changed, Namespace(tta=True))
    one, other, last = changed.test_dataloader.dataset.dataset.datasets
    assert one.pipeline == other.pipeline == last.dataset.pipeline == ["b"]
    assert "pipeline" not in last and changed.model.module.type == "M"
    dump_predictions(changed, Namespace(out="a.npz"))
    assert changed.test_evaluator[-1].data_root == ["x", "y"]


REVCOL = {"type": "mmrev.RevCol", "memory": "auto", "memory_budget_mb": 9}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"launcher": "none"}, "start them by torchrun"),
        ({"runner_type": "FlexibleRunner"}, "got runner_type=FlexibleRunner"),
        ({"custom_hooks": [{"type": "EMAHook"}]}, "EMAHook copies a whole model"),
        ({"custom_hooks": [{"type": "mmrev.StitchFitHook"}]}, "fits whole stitches"),
        ({"model": {"backbone": REVCOL}}, "memory='auto' of mmrev.RevCol"),
    ],
)
def test_what_cannot_be_sharded_is_refused(changed, message):
    cfg = Config({"launcher": "pytorch", "model": {}, "optim_wrapper": {}, **changed})
    with pytest.raises(UserError, match=f"--shard.*{message}"):
        shard(cfg, Namespace(shard=True))
    shard(cfg, Namespace(shard=False))
    assert "strategy" not in cfg


def test_a_sharded_run_saves_folders_and_scales_no_loss():
    wrapper = {"type": "mmrev.AGCAmpOptimWrapper", "loss_scale": "dynamic"}
    cfg = Config(
        {
            "launcher": "pytorch",
            "model": {},
            "optim_wrapper": wrapper,
            "default_hooks": {"checkpoint": {"type": "C", "by_epoch": False}},
            "custom_hooks": [{"type": "mmrev.StitchFitHook"}],
            "load_from": "fitted.pth",
        }
    )
    shard(cfg, Namespace(shard=True))
    assert cfg.optim_wrapper == {"type": "mmrev.AGCBFloat16OptimWrapper"}
    assert cfg.default_hooks.checkpoint.filename_tmpl == "iter_{}.dcp"
    assert cfg.custom_hooks[-1].type == "mmrev.GatherWeightsHook"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"launcher": "none"}, "start them by torchrun.*--expert-parallel"),
        ({"shard": True}, "--shard spreads the experts, too; use one of them"),
        ({"runner_type": "FlexibleRunner"}, "got runner_type=FlexibleRunner"),
        ({"custom_hooks": [{"type": "EMAHook"}]}, "EMAHook copies a whole model"),
        (
            {"optim_wrapper": {"type": "mmrev.SAMAmpOptimWrapper"}},
            "climbs by.*use mmrev.AGCAmpOptimWrapper or OptimWrapper",
        ),
        ({"optim_wrapper": {"accumulative_counts": 4}}, "accumulative_counts=1 and a"),
    ],
)
def test_what_experts_cannot_be_divided_for(changed, message):
    args = Namespace(expert_parallel=True, shard=changed.pop("shard", False))
    cfg = Config({"launcher": "pytorch", "model": {}, "optim_wrapper": {}, **changed})
    with pytest.raises(UserError, match=f"--expert-parallel.*{message}"):
        divide_experts(cfg, args)
    divide_experts(cfg, Namespace(expert_parallel=False))
    assert "strategy" not in cfg


def test_divided_experts_are_gathered_to_validate_and_scale_no_loss():
    wrapper = {"type": "AmpOptimWrapper", "loss_scale": "dynamic"}
    cfg = Config({"launcher": "pytorch", "model": {}, "optim_wrapper": wrapper})
    divide_experts(cfg, Namespace(expert_parallel=True, shard=False))
    assert cfg.optim_wrapper == {"type": "mmrev.BFloat16OptimWrapper"}
    assert cfg.strategy.type == "mmrev.ExpertParallelStrategy"
    assert cfg.custom_hooks[-1].type == "mmrev.GatherWeightsHook"
