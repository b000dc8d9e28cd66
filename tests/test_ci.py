"""`.ci/run` stops at the first failure and passes it on."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci/run"


@pytest.mark.parametrize(
    ("failing", "ran"),
    [
        ("nothing", ["setup", "lint", "test", "test-ci"]),
        ("lint", ["setup", "lint"]),
    ],
)
def test_a_failing_step_fails_the_run(tmp_path, failing, ran):
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci/run")
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text(f'#!/bin/sh\necho "$1" >> ran\n[ "$1" != {failing} ] || exit 2\n')
    make.chmod(0o755)
    for name in ("apt-get", "chromium"):
        (make.parent / name).symlink_to(shutil.which("true"))
    run = subprocess.run(
        [tmp_path / ".ci/run"],
        env=os.environ | {"PATH": f"{make.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert (tmp_path / "ran").read_text().split() == ran
    assert run.returncode == (0 if failing == "nothing" else 2)
    for step in ran:
        outcome = "FAILED (exit 2)" if step == failing else "passed in"
        assert f"=== make {step}: {outcome}" in run.stdout
