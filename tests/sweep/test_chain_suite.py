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


@pytest.mark.slow
@pytest.mark.ci
def test_the_last_record_tells_and_proves_every_stage(tmp_path):
    for name in ("tools", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    suite = yaml.safe_load((ROOT / "configs/suites/chain-demo.yaml").read_text())
    few = {"train_dataloader.dataset.scenes": {"seed": 1, "num_training": 16}}
    for name, run in suite["runs"].items():
        run["options"] = {
            **run.get("options", {}),
            **FEWEST["crops" if name == "crops" else "dino"],
            **(few if name == "others" else {}),
        }
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
    assert "chain-demo: 4 cells, 4 done" in swept.stdout, swept.stdout + swept.stderr
    folder = tmp_path / "work_dirs/sweep-chain-demo"
    records, _ = load_records([folder])
    by_stages = {len(one.training.stages): one for one in records.values()}
    assert len(records) == 3 and by_stages.keys() == {1, 2}
    crops, others = by_stages[2].training.stages
    assert (crops.kind, crops.seed, others.starts) == ("ImageClassifier", 0, [crops])
    assert (others.kind, others.epochs) == ("DINO", 1)
    places = {file_sha256(path): path for path in folder.glob("*/seed-0/*.pth")}
    place = places[others.checkpoint.sha256]
    command = ("tools/leaderboard.py", "verify", str(folder))
    verified = tool(*command)
    assert verified.returncode == 0, verified.stdout
    assert f"stage {crops.name}" in verified.stdout
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    verified = tool(*command)
    assert verified.returncode == 1
    assert f"{place} hashes to another" in verified.stdout.replace("\n", "")
