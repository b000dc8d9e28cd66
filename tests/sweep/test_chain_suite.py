"""A chain of three trainings by the tool as a user runs it, with the fewest steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_demo_suite import FEWEST

from mmrev.hashes import file_sha256
from mmrev.leaderboard.store import load_records

ROOT = Path(__file__).parents[2]


PRETRAINING = {k: v for k, v in FEWEST["crops"].items() if "dataset" not in k}
OTHERS = {"train_dataloader.dataset.scenes": {"seed": 1, "num_training": 16}}


@pytest.mark.slow
def test_the_last_record_tells_and_proves_every_stage(tmp_path):
    for name in ("tools", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    suite = yaml.safe_load((ROOT / "configs/suites/chain-demo.yaml").read_text())
    few = {"simmim": PRETRAINING, "simmim-others": {**FEWEST["dino"], **OTHERS}}
    few["simmim-others-scenes"] = FEWEST["dino"]
    suite["runs"] = {name: suite["runs"][name] for name in few}
    for name, run in suite["runs"].items():
        run["options"] = {**run.get("options", {}), **few[name]}
    suite["matrix"] = {"backbone": ["revcol"]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))

    def tool(*command):
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "COLUMNS": "300",
            },
            capture_output=True,
            text=True,
        )

    swept = tool("tools/sweep.py", "suite.yaml", "--jobs", "2")
    assert "chain-demo: 3 cells, 3 done" in swept.stdout, swept.stdout + swept.stderr
    folder = tmp_path / "work_dirs/sweep-chain-demo"
    records, _ = load_records([folder])
    by_stages = {len(one.training.stages): one for one in records.values()}
    assert len(records) == 2 and by_stages.keys() == {1, 2}
    simmim, others = by_stages[2].training.stages
    assert (simmim.kind, simmim.seed, others.starts) == ("SimMIM", 0, [simmim])
    assert (others.kind, others.epochs) == ("DINO", 1)
    places = {file_sha256(path): path for path in folder.glob("*/seed-0/*.pth")}
    place = places[others.checkpoint.sha256]
    command = ("tools/leaderboard.py", "verify", str(folder))
    verified = tool(*command)
    assert verified.returncode == 0, verified.stdout
    assert f"stage {simmim.name}" in verified.stdout
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    verified = tool(*command)
    assert verified.returncode == 1
    assert f"{place} hashes to another" in verified.stdout.replace("\n", "")
