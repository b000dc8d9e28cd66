"""A sharded training by the tools, and what they refuse of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_tools_train import TRAIN, losses

from mmrev.checkpoints.runs import read_checkpoint

CONVERT = Path(TRAIN).with_name("convert_checkpoint.py")
BEST = "default_hooks.checkpoint.save_best=auto"
KEEP = "default_hooks.checkpoint.max_keep_ckpts=1"


def processes(count, *argv):
    """Run a training in processes of its own; nothing of it may hang."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", TRAIN, *argv, "--launcher", "pytorch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        map(str, command), capture_output=True, text=True, env=environment, timeout=300
    )


def trained(*argv):
    done = processes(2, "det.py", "--shard", *argv)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU only")
def test_train_resume_convert_and_test(run, tmp_path):
    settings = ("--cfg-options", KEEP, BEST, "train_cfg.val_interval=1")
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    trained("--work-dir", whole, *settings)
    trained("--work-dir", halved, *settings, "train_cfg.max_epochs=1")
    said = trained("--work-dir", halved, "--resume", *settings)
    assert f"resume: {halved / 'epoch_1.dcp'} (epoch 1, iteration 1)" in said
    assert losses(whole) == losses(halved) and len(losses(whole)) == 2
    for folder in (whole, halved):
        best, last = sorted(path.name for path in folder.glob("*.dcp"))
        assert best.startswith("best_coco") and last == "epoch_2.dcp"
    one, other = (read_checkpoint(path / "epoch_2.dcp") for path in (whole, halved))
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name])

    folder, file = halved / "epoch_2.dcp", tmp_path / "one.pth"
    command = [sys.executable, CONVERT, folder, file]
    assert subprocess.run(command).returncode == 0
    assert run("test", "det.py", file, "--work-dir", tmp_path).status == 0
    (record,) = (tmp_path / "records").glob("*.json")
    assert "coco/bbox_mAP" in json.loads(record.read_text())["metrics"]
    refused = run("test", "det.py", folder, "--work-dir", tmp_path)
    assert refused.status == 1 and f"convert_checkpoint.py {folder}" in refused.err


def test_it_needs_processes(run, tmp_path):
    result = run("train", "det.py", "--shard", "--work-dir", tmp_path)
    assert result.status == 1
    assert "--launcher pytorch --shard" in result.err
    assert result.err.count("\n") == 1
