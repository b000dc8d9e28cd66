"""The experiment on pretraining, with the fewest steps, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mmrev.leaderboard.store import load_records

ROOT = Path(__file__).parents[2]
SUITE = yaml.safe_load((ROOT / "configs/suites/pretraining.yaml").read_text())
_LOADER = {"num_workers": 0, "persistent_workers": False, "batch_size": 4}
_TRAIN = {f"train_dataloader.{key}": value for key, value in _LOADER.items()}
_FEW = {f"{split}_dataloader.dataset.indices": 8 for split in ("train", "val", "test")}
_SHORT = {"train_cfg.max_iters": 2, "train_cfg.val_interval": 2}
ARMS = {"scratch", "scratch-short"} | {
    f"{start}-{track}"
    for start in ("crops", "simmim", "fd")
    for track in ("frozen", "tuned")
}


def smallest(name, run):
    """A run of a few steps: schedules may be longer than the training."""
    options = {**run.get("options", {}), **_TRAIN}
    if name in ("crops", "teacher"):
        options["train_dataloader.dataset.num_rounds"] = 1
    elif name in ("simmim", "fd"):
        options["train_dataloader.dataset.indices"] = 8
    else:
        options |= _FEW
    if name.startswith("dino"):
        options |= {"train_cfg.max_epochs": 1, "train_cfg.val_interval": 1}
    else:
        options |= _SHORT
    return {**run, "options": options}


def test_every_arm_is_under_both_heads_at_the_compute_of_the_others():
    for head in ("dino", "mask2former"):
        runs = {name for name in SUITE["runs"] if name.startswith(f"{head}-")}
        assert runs == {f"{head}-{arm}" for arm in ARMS}
    assert SUITE["seeds"] == [0, 1, 2]
    for name, run in SUITE["runs"].items():
        track = run.get("options", {}).get("track")
        assert track is None or name.removesuffix("-short").endswith(track)
        arm = name.split("-")[1] if run.get("test", True) else None
        assert run.get("start") == (None if arm == "scratch" else arm) or arm is None


@pytest.mark.slow
def test_every_arm_comes_out(tmp_path):
    for name in ("tools", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    runs = {name: smallest(name, run) for name, run in SUITE["runs"].items()}
    suite = {**SUITE, "seeds": [0], "matrix": {"backbone": ["revcol"]}, "runs": runs}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    out = subprocess.run(
        [sys.executable, "tools/sweep.py", "suite.yaml", "--jobs", "2"],
        cwd=tmp_path,
        env={
            **os.environ,
            **dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", COLUMNS="200"),
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert f"pretraining: {len(runs)} cells, {len(runs)} done" in out
    table = out.partition("seeds")[2]
    for name, run in runs.items():
        if run.get("test", True):
            (line,) = (line for line in table.splitlines() if f" {name} " in line)
            assert "1 of 1" in line and "not run" not in line
    records, rejected = load_records([tmp_path / "work_dirs/sweep-pretraining"])
    assert not rejected
    tracks = [record.training.track for record in records.values()]
    assert (tracks.count("scratch"), tracks.count("tuned")) == (4, 6)
    assert tracks.count("frozen") == 6 + 3  # and the linear ones
