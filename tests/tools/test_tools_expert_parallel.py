"""A training with divided experts by the tools, and what they refuse of one."""

import json

import pytest
import torch
from test_tools_shard import processes

from mmrev.checkpoints.runs import read_checkpoint

SPARSE = """\
_base_ = "cls.py"
model = dict(
    _delete_=True,
    type="mmrev.BalancedExperts",
    model=dict(
        type="ImageClassifier",
        backbone=dict(
            type="mmrev.SwinTransformerV2",
            arch=dict(embed_dims=8, depths=[1, 1, 2, 2], num_heads=[1, 1, 2, 2]),
            window_size=4,
            moe=dict(num_experts=4, dropout=0.1),
            out_indices=(3,),
        ),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=4, in_channels=64,
                  loss=dict(type="CrossEntropyLoss")),
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
train_cfg = dict(val_interval=1)
default_hooks = dict(checkpoint=dict(save_best="auto", max_keep_ckpts=1))
"""


@pytest.fixture
def config(project):
    path = project / "experts.py"
    path.write_text(SPARSE)
    return path.name


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU only")
def test_train_resume_alone_and_test(run, config, tmp_path):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    once = ("--cfg-options", "train_cfg.max_epochs=1")
    for argv in (["--work-dir", whole], ["--work-dir", halved, *once],
                 ["--work-dir", halved, "--resume"]):  # fmt: skip
        done = processes(2, config, "--expert-parallel", *argv)
        assert done.returncode == 0, done.stderr[-3000:]
    assert f"resume: {halved / 'epoch_1.pth'} (epoch 1, iteration 1)" in done.stdout
    one, other = (read_checkpoint(path / "epoch_2.pth") for path in (whole, halved))
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    experts = [name for name in one["state_dict"] if ".experts." in name]
    assert len(experts) == 2 * 4 * 4
    numbers = range(len(one["optimizer"]["param_groups"][0]["params"]))
    assert one["optimizer"]["state"].keys() == set(numbers)

    # It is one of any number of processes.
    more = ("--cfg-options", "train_cfg.max_epochs=3")
    argv = (config, "--work-dir", tmp_path, "--resume", whole / "epoch_2.pth", *more)
    assert run("train", *argv).status == 0
    argv = (config, whole / "epoch_2.pth", "--work-dir", tmp_path)
    assert run("test", *argv).status == 0
    (record,) = (tmp_path / "records").glob("*.json")
    model = json.loads(record.read_text())["model"]
    spare = 3 * sum(2 * 4 * width * width + 5 * width for width in (32, 64))
    assert model["params"] - model["params_activated"] == spare


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "name", "message"),
    [
        (3, "experts.py", "do not divide over 3 processes. Start 1 or 2 or 4 of them"),
        (2, "cls.py", "ImageClassifier has no experts"),
    ],
)
def test_what_does_not_divide_is_one_line(config, count, name, message, tmp_path):
    done = processes(count, name, "--expert-parallel", "--work-dir", tmp_path)
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode == 1 and "Traceback" not in done.stderr.partition("W1")[0]
    assert len(errors) == count and all(message in line for line in errors)


def test_it_needs_processes(run, config, tmp_path):
    result = run("train", config, "--expert-parallel", "--work-dir", tmp_path)
    assert result.status == 1
    assert "--launcher pytorch --expert-parallel" in result.err
    assert result.err.count("\n") == 1
