"""A process that dies takes the run with it, and torchrun starts both again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_tools_train import TRAIN, losses


def wait_for(found, run):
    """Until there is something; fails when the run ends, or nothing comes."""
    for _ in range(3000):
        if result := found():
            return result
        assert run.poll() is None, "the run has ended"
        time.sleep(0.1)
    raise AssertionError("the run hangs")


def kill_one(run, folder, after):
    """Kill the last process once a checkpoint later than an iteration is there."""

    def saved():
        steps = (int(path.stem[5:]) for path in folder.glob("iter_*.pth"))
        return [step for step in steps if step > after + 1]

    last = max(wait_for(saved, run))
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    return last


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU only")
def test_a_killed_process_ends_or_restarts_the_run(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "--max-restarts=1", TRAIN, "det_iterations.py"]
    command += ["--launcher", "pytorch", "--work-dir", tmp_path, "--resume"]
    command += ["--cfg-options", "train_cfg.max_iters=1000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as run:
        try:
            first = kill_one(run, tmp_path, 0)
            second = kill_one(run, tmp_path, first)
            said, _ = run.communicate(timeout=300)
        finally:
            run.terminate()
    assert run.returncode not in (0, None)
    starts = [line for line in said.decode().splitlines() if "resume: " in line]
    assert "starting anew" in starts[0] and len(starts) == 2
    resumed = int(starts[1].partition("iteration ")[2].rstrip(")"))
    assert first <= resumed < second
    assert set(range(1, second)) <= losses(tmp_path).keys()
