"""Many cells: their order, what is tried again, and sweeps that are interrupted."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import fake_job, make_cell, plan, starts

from mmrev.errors import UserError
from mmrev.sweep import sweep as module
from mmrev.sweep.entries import look
from mmrev.sweep.executors import LocalExecutor
from mmrev.sweep.state import read_state
from mmrev.sweep.suite import Run, Suite
from mmrev.sweep.sweep import Sweep, alone, job_of

DRIVER = Path(__file__).with_name("driver.py")


class Inline:
    """An executor of one job at a time, which does it while it is submitted."""

    ends_with_sweep = True

    def __init__(self):
        self.names = []
        self.busy = False

    def has_room(self):
        return not self.busy

    def submit(self, job, name):
        self.names.append(name)
        self.busy = True
        job()
        return str(len(self.names))

    def adopt(self, folder):
        return None

    def has_ended(self, job):
        self.busy = False
        return True

    def stop(self, job):
        raise AssertionError("nothing runs on")


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(module, "job_of", fake_job)
    monkeypatch.setattr(module, "_LOOK_EVERY", 0)


def run(cells, retries=1):
    """Sweep; the exit status, and the names of the jobs."""
    runs = {"a": Run(config="a")}
    suite = Suite(name="fake", seeds=[0], retries=retries, runs=runs)
    executor = Inline()
    return Sweep(suite, look(cells), executor).run(), executor.names


@pytest.fixture
def cells(tmp_path):
    first = make_cell(tmp_path, "first", tested=False)
    second = make_cell(tmp_path, "second", start=first)
    return [first, make_cell(tmp_path, "other"), second]


def test_a_chain_goes_on_before_another_begins(cells, capsys):
    status, names = run(cells)
    assert status == 0
    assert names == ["first-seed-0", "second-seed-0", "other-seed-0"]
    out = capsys.readouterr().out
    assert "second seed 0: done in " in out
    assert "coco/bbox_mAP 0.4" in out
    assert "fake: 3 cells, 3 done" in out
    assert run(cells) == (0, [])


def test_what_fails_is_tried_again_and_keeps_nothing_else_back(cells, capsys):
    plan(cells[0], "train", "fail fail fail")
    status, names = run(cells, retries=1)
    assert status == 1
    assert names == ["first-seed-0", "first-seed-0", "other-seed-0"]
    out = capsys.readouterr().out
    assert "first seed 0: failed (2 of 2): error: train" in out
    assert "starts from first seed 0, which failed" in out
    assert "fake: 3 cells, 1 failed, 1 blocked, 1 done" in out
    # Another sweep counts anew.
    assert run(cells, retries=1) == (0, ["first-seed-0"] * 2 + ["second-seed-0"])


def test_what_was_stopped_is_no_failure(cells):
    plan(cells[1], "train", "again again again")
    assert run(cells[1:2], retries=0)[0] == 0
    assert starts(cells[1], "train") == 4


def test_a_job_that_ends_without_a_word_has_failed(cells, monkeypatch, capsys):
    monkeypatch.setattr(module, "job_of", lambda *_: lambda: None)
    assert run(cells[1:2], retries=0)[0] == 1
    assert "job 1 ended without a word" in capsys.readouterr().out


def test_only_what_depends_on_a_change_is_done_again(cells):
    run(cells)
    first, other, second = cells
    first.checkpoint.unlink()
    second.checkpoint.unlink()
    assert run(cells) == (0, ["first-seed-0", "second-seed-0"])
    assert starts(other, "train") == 1


def test_dependents_of_other_weights_are_done_again(tmp_path):
    first = make_cell(tmp_path, "first")
    second = make_cell(tmp_path, "second", start=first)
    run([first, second])
    first.checkpoint.unlink()
    assert run([first, second]) == (0, ["first-seed-0", "second-seed-0"])
    assert run([first, second]) == (0, [])


def test_a_pretraining_that_nothing_needs_is_not_repeated(cells, capsys):
    run(cells)
    cells[0].checkpoint.unlink()
    assert run(cells) == (0, [])
    assert "2 done, 1 needless" in capsys.readouterr().out


def test_a_record_is_made_again_without_the_pretraining(cells):
    run(cells)
    cells[0].checkpoint.unlink()
    for record in cells[2].folder.glob("records/*"):
        record.unlink()
    assert run(cells) == (0, ["second-seed-0"])
    assert (starts(cells[2], "train"), starts(cells[2], "test")) == (1, 2)


def test_a_second_sweep_of_a_folder_is_refused(tmp_path):
    with alone(tmp_path), pytest.raises(UserError, match=rf"process {os.getpid()} on "):
        alone(tmp_path).__enter__()
    with alone(tmp_path):
        pass


def test_the_commands_are_those_of_a_user(tmp_path):
    first = make_cell(tmp_path, "first", tested=False)
    cell = make_cell(tmp_path, "second", start=first)
    cell.options.update({"randomness.seed": 0, "a.b": [1, "x y"], "c": None})
    cell.train_args.append("--amp")
    train, test = job_of(cell, 1, True).steps
    assert train.command[1:5] == ["tools/train.py", "second.py", "--resume", "--amp"]
    assert test.command[1:4] == ["tools/test.py", "second.py", str(cell.checkpoint)]
    options = ["--cfg-options", "randomness.seed=0", "a.b=[1, 'x y']", "c=None"]
    assert train.command[-4:] == test.command[-4:] == options
    assert [step.name for step in job_of(first, 1, True).steps] == ["train"]
    command = job_of(cell, 8, False).steps[0].command
    assert "torch.distributed.run" in command
    assert "--nproc-per-node=8" in command
    assert command[-2:] == ["--launcher", "pytorch"]


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_an_interrupted_sweep_lets_trainings_save(cells, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    other = cells[1]
    plan(other, "train", "sleep")
    sleeping = other.folder / "sleeping"

    def press_ctrl_c():
        wait_until(sleeping.is_file)
        os.kill(os.getpid(), signal.SIGINT)

    suite = Suite(name="fake", seeds=[0], runs={"a": Run(config="a")})
    executor = LocalExecutor(tmp_path / "jobs", 1, 0)
    thread = threading.Thread(target=press_ctrl_c)
    thread.start()
    assert Sweep(suite, look([other]), executor).run() == 130
    thread.join()
    out = capsys.readouterr().out
    assert "trainings save first" in out
    assert f"interrupted; {shlex.join(['python', *sys.argv])} continues" in out
    assert not sleeping.exists()
    assert read_state(other.folder).outcome == "again"
    assert run(cells)[0] == 0
    assert starts(other, "train") == 2


def driver(out):
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.ci
def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path):
    first, second, other = (
        make_cell(tmp_path, n) for n in ("first", "second", "other")
    )
    plan(second, "train", "sleep")
    sleeping = second.folder / "sleeping"
    killed = driver(tmp_path)
    wait_until(lambda: sleeping.is_file() and any(other.folder.glob("records/*")))
    killed.kill()
    # Its job sees that it is gone, and lets the training save.
    last = driver(tmp_path)
    out, _ = last.communicate(timeout=120)
    killed.communicate(timeout=120)
    assert last.returncode == 0
    assert "fake: 3 cells, 3 done" in out
    for cell, times in ((first, 1), (other, 1), (second, 2)):
        assert starts(cell, "train") == times
    assert starts(other, "test") == 1
