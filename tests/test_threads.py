"""Waiting threads spin briefly: where, and that torch's own OpenMP hears of it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmrev.threads import SPINS, wait_briefly

ROOT = Path(__file__).parents[1]
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("stated", "devices", "spins"),
    [
        ({}, [], str(SPINS)),
        ({"GOMP_SPINCOUNT": "7"}, [], "7"),
        ({"OMP_WAIT_POLICY": "active"}, [], None),
        ({}, ["nvidia0"], None),
        ({}, ["kfd"], None),
        # The driver's control file is there without a GPU, too.
        ({}, ["nvidiactl", "null"], str(SPINS)),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["nvidia0"], str(SPINS)),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ["nvidia0"], str(SPINS)),
        ({"CUDA_VISIBLE_DEVICES": "0"}, ["nvidia0"], None),
    ],
)
def test_where_it_is_set(tmp_path, monkeypatch, stated, devices, spins):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    for name in devices:
        (tmp_path / name).touch()
    wait_briefly(tmp_path)
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no libgomp")
def test_openmp_of_torch_reads_it():
    env = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_DISPLAY_ENV": "verbose"}
    # As a tool begins: with mmrev, and torch comes by way of it.
    done = subprocess.run(
        [sys.executable, "-c", "import mmrev.reversible"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr


def test_every_entry_imports_mmrev_before_what_loads_torch():
    entries = [*ROOT.glob("tools/**/*.py"), ROOT / "tests/conftest.py"]
    assert len(entries) > 10
    for path in entries:
        names = []
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names.append(node.module)
        packages = [name.partition(".")[0] for name in names]
        others = [one for one in packages if one not in sys.stdlib_module_names]
        assert others[0] == "mmrev", path
