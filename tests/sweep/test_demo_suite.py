"""The suite of demos, with the fewest steps, by the tool as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mmrev.leaderboard.groups import grouped
from mmrev.leaderboard.store import load_records
from mmrev.sweep.state import read_state

ROOT = Path(__file__).parents[2]
_LOADER = {"num_workers": 0, "persistent_workers": False}
_TRAIN = {f"train_dataloader.{key}": value for key, value in _LOADER.items()}
_FEW = {f"{split}_dataloader.dataset.indices": 16 for split in ("train", "val", "test")}
FEWEST = {
    "crops": {
        **_TRAIN,
        "train_cfg.max_iters": 2,
        "train_dataloader.batch_size": 8,
        "train_dataloader.dataset.num_rounds": 1,
    },
    "dino": {**_TRAIN, **_FEW, "train_cfg.max_epochs": 1},
    "mask2former": {**_TRAIN, **_FEW, "train_cfg.max_iters": 2},
}


@pytest.mark.slow
def test_three_seeds_fill_the_leaderboard(tmp_path):
    for name in ("tools", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    suite = yaml.safe_load((ROOT / "configs/suites/demo.yaml").read_text())
    assert suite["seeds"] == [0, 1, 2]
    for name, options in FEWEST.items():
        suite["runs"][name]["options"] = options
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    command = ["tools/sweep.py", "suite.yaml", "--only", "revcol*", "--jobs", "2"]

    def sweep():
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    out = sweep()
    assert "demo: 9 cells, 9 done" in out
    assert "±" in out
    folder = tmp_path / "work_dirs/sweep-demo"
    records, rejected = load_records([folder])
    assert not rejected
    groups = grouped(records.values())
    assert [len(group.records) for group in groups] == [3, 3]
    assert {r.config.resolved["randomness"]["seed"] for r in groups[0].records} == {
        *(0, 1, 2)
    }
    # Again, there is nothing to do.
    assert "demo: 9 cells, 9 done" in sweep()
    states = [read_state(path.parent) for path in folder.glob("*/*/cell.json")]
    assert len(states) == 9
    assert {count for state in states for count in state.starts.values()} == {1}
