"""``--safe-config`` on every tool that reads a config."""

import re
from pathlib import Path

import pytest
from mmengine.registry import registry as lookup

TOOLS = Path(__file__).parents[2] / "tools"
# What each needs beside a config; none gets to look at it.
ARGUMENTS = {
    "analysis/features": [],
    "browse": [],
    "check_data": [],
    "deploy": ["a.pth", "b.pth"],
    "export_stitch": ["a.pth", "0", "b.pth"],
    "plan": ["--gpus", "1", "--memory", "8"],
    "stitches": [],
    "test": ["a.pth"],
    "train": [],
}


def test_no_tool_is_left_out():
    readers = set()
    for path in TOOLS.rglob("*.py"):
        text = path.read_text()
        name = path.relative_to(TOOLS).with_suffix("").as_posix()
        assert not re.search(r'add(_argument)?\(\s*"config"', text), name
        if "add_config_arguments(" in text:
            readers.add(name)
    # The last reads the config as tools/stitches.py does, after much else.
    assert readers == {*ARGUMENTS, "analysis/stitch_stream"}


@pytest.mark.parametrize("tool", ARGUMENTS)
def test_nothing_of_a_config_runs(tool, run, tmp_path):
    ran, config = tmp_path / "ran", tmp_path / "a.py"
    config.write_text(f"open({str(ran)!r}, 'w')\nmodel = None\n")
    result = run(tool, config, *ARGUMENTS[tool], "--safe-config")
    assert result.status == 1
    assert result.err.startswith(f"error: config {config}, line 1: found a call, open(")
    assert not ran.exists()


def test_a_safe_config_trains_and_tests(run, tmp_path, monkeypatch):
    # What it changes for the process is none of the next test's business.
    for name in ("get_object_from_string", "import_module"):
        monkeypatch.setattr(lookup, name, getattr(lookup, name))
    folder = tmp_path / "run"
    safe = ("--safe-config", "--work-dir", folder)
    short = ("--cfg-options", "train_cfg.max_epochs=1")
    assert run("train", "det.py", *safe, *short).status == 0
    assert run("test", "det.py", folder / "epoch_1.pth", *safe).status == 0
    assert list(folder.glob("records/*.json"))
