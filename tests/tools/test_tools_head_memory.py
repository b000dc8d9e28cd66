"""`head_memory` in a training: the same weights, and mistakes in one line."""

import re

import pytest
import torch
from resolved import resolve, use_scope
from shrink import shrink

DINO = "vanillanet/vanillanet-5_dino-4scale_8xb2-12e_coco"


@pytest.mark.slow
@pytest.mark.ci
def test_weights_are_the_same(run, tmp_path):
    cfg = shrink(resolve(DINO))
    cfg.train_cfg.max_epochs, cfg.absent_classes = 1, "said"
    use_scope(cfg.default_scope)
    cfg.dump("dino.py")
    states = {}
    for memory in ("store", "recompute"):
        folder = tmp_path / memory
        settings = (f"head_memory={memory}", "randomness.seed=1", "val_cfg=None")
        settings += ("val_dataloader=None", "val_evaluator=None")
        result = run(
            *("train", "dino.py", "--work-dir", folder, "--cfg-options", *settings)
        )
        assert result.status == 0, result.err
        said = next(folder.glob("*/*.log")).read_text()
        assert ("2 parts run again" in said) == (memory == "recompute")
        checkpoint = torch.load(folder / "epoch_1.pth", weights_only=False)
        states[memory] = checkpoint["state_dict"]
    plain, again = states.values()
    assert list(plain) == list(again)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "head_memory=reverse",
            "head_memory: expected one of store, recompute, got",
        ),
        ("head_memory=True", "head_memory: expected one of store, recompute, got True"),
        ("head_memories=recompute", "no 'head_memories'; did you mean 'head_memory'"),
        (
            "head_memory=recompute",
            "recompute_head: expected a model with transformer layers .* got RetinaNet",
        ),
        (
            "custom_hooks=[{'type':'mmrev.RecomputeHook','patterns':['encoder.*']}]",
            r"expected patterns .* as .* got 'encoder\.\*', which matches none",
        ),
        (
            "custom_hooks=[{'type':'mmrev.RecomputeHook','patterns':'neck'}]",
            "RecomputeHook: expected patterns of names .* got 'neck'",
        ),
    ],
)
def test_mistakes_are_one_line(run, setting, message):
    for tool in ("train", "plan"):
        rest = ("--gpus", 1, "--memory", 1) if tool == "plan" else ()
        rest += ("--cfg-options", setting)
        result = run(tool, "det.py", *rest)
        assert result.status == 1
        (line,) = [one for one in result.err.splitlines() if "error:" in one]
        assert re.search(message, line)
        assert "Traceback" not in result.err
