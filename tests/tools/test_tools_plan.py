"""`tools/plan.py`: ways to train are priced, mistakes are one line."""

import json
import re
from pathlib import Path

import pytest
import torch

ONE = ("--gpus", 1, "--memory", 1)


def test_recommends_what_fits(run):
    result = run("plan", "seg.py", "--gpus", 2, "--memory", 0.04, "--json")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert found["size"] == [64, 64]
    ways = {
        (str(one["memory"]), one["precision"], one["sharding"], one["batch"]): one
        for one in found["options"]
    }
    assert {way[1:] for way in ways} >= {
        (precision, sharding, batch)
        for precision in ("float32", "bfloat16")
        for sharding in ("ddp", "fsdp")
        for batch in (1, 2)
    }
    store, recompute, reverse = (
        ways[mode, "float32", "ddp", 2] for mode in ("store", "recompute", "reverse")
    )
    assert store["peak"] > recompute["peak"] > reverse["peak"]
    assert store["flops"] < recompute["flops"] <= reverse["flops"]
    half = ways["store", "bfloat16", "ddp", 2]
    assert half["flops"] == store["flops"]
    assert half["peak"] != store["peak"]
    best = found["recommended"]
    assert best["peak"] <= 0.9 * 0.04e9
    fitting = [one for one in found["options"] if one["peak"] <= 0.9 * 0.04e9]
    assert best["batch"] == max(one["batch"] for one in fitting)


def test_prints_the_command_that_trains(run):
    result = run("plan", "det.py", *ONE, "--tflops", 100)
    assert result.status == 0, result.err
    assert re.search(r"│ recompute +│ bfloat16 +│ none", result.out)
    assert "images of 96x96" in result.out
    assert "at 100 TFLOPS" in " ".join(result.out.split())
    assert result.out.rstrip().endswith(
        "python tools/train.py det.py --cfg-options train_dataloader.batch_size=2 "
        "model.backbone.memory=store"
    )


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (
            "seg.py",
            ("--gpus", 1, "--memory", 0.001),
            r"nothing fits: memory=\w+, batch 1, \w+ takes least, 0.00\d+ GB, with "
            r"images of 64x64; of 0.001 GB 0.0009 are planned for",
        ),
        ("seg.py", ("--gpus", 0, "--memory", 1), "--gpus: expected more than 0, got 0"),
        ("seg.py", ("--gpus", 1, "--memory", -1), "--memory: expected more than 0"),
        ("seg.py", ("--gpus", 1, "--memory", "nan"), "--memory: expected .* got nan"),
        pytest.param(
            "seg.py",
            (*ONE, "--device", "cuda"),
            "--device cuda: torch sees no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here"),
        ),
        ("seg.py", (*ONE, "--tflops", 0), "--tflops: expected more than 0, got 0"),
        ("seg.py", (*ONE, "--size", 16, 64), "--size: expected .* 32 .*got 16 and 64"),
        ("none.py", ONE, "config not found: none.py"),
        (
            "seg.py",
            (*ONE, "--cfg-options", "train_dataloader=None"),
            "seg.py: no train_dataloader; there is no training",
        ),
        (
            "seg.py",
            (*ONE, "--cfg-options", "optim_wrapper.type=mmrev.Other"),
            "seg.py: expected optim_wrapper.type one of OptimWrapper, .* got Other",
        ),
        (
            "mmdet.py",
            ONE,
            "mmdet.py: expected a model with a backbone of mmrev, .* got none",
        ),
        (
            "det.py",
            (*ONE, "--cfg-options", "train_dataloader.dataset.pipeline=[]"),
            "det.py: its training states no size of images .* --size",
        ),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, config, settings, message):
    Path("mmdet.py").write_text(
        "_base_ = 'det.py'\nmodel = dict(backbone=dict(_delete_=True, "
        "type='mmdet.ResNet', depth=18, base_channels=8))\n"
    )
    result = run("plan", config, *settings)
    assert result.status == 1
    assert re.search(message, result.err.replace("\n", " "))
    assert "Traceback" not in result.err
