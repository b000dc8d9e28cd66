"""What a job does for one cell, in this process; its tools only pretend."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from fakes import fake_job, make_cell, plan, starts

from mmrev.sweep.job import tail_of
from mmrev.sweep.state import read_state, steps_left


def left(cell, start=None):
    return steps_left(cell.folder, ["train", "test"], cell.config_sha256, start)


def test_a_job_does_what_is_left_and_nothing_twice(tmp_path):
    cell = make_cell(tmp_path, "a")
    assert left(cell) == ["train", "test"]
    assert fake_job(cell)() == "done"
    assert left(cell) == []
    assert fake_job(cell)() == "done"
    assert (starts(cell, "train"), starts(cell, "test")) == (1, 1)
    state = read_state(cell.folder)
    assert state.starts == {"train": 1, "test": 1}
    assert state.seconds.keys() == {"train", "test"}


def test_without_its_record_a_cell_is_tested_again(tmp_path):
    cell = make_cell(tmp_path, "a")
    fake_job(cell)()
    for path in cell.folder.glob("records/*.json"):
        path.unlink()
    assert left(cell) == ["test"]
    fake_job(cell)()
    assert (starts(cell, "train"), starts(cell, "test")) == (1, 2)


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_text("x")]
)
def test_without_its_weights_a_cell_is_trained_again(tmp_path, harm):
    cell = make_cell(tmp_path, "a")
    fake_job(cell)()
    harm(cell.checkpoint)
    assert left(cell) == ["train", "test"]


def test_the_same_weights_written_again_are_the_same(tmp_path):
    cell = make_cell(tmp_path, "a")
    fake_job(cell)()
    cell.checkpoint.write_bytes(cell.checkpoint.read_bytes())
    assert left(cell) == []


def test_a_failed_step_is_told_by_its_last_line(tmp_path):
    cell = make_cell(tmp_path, "a")
    plan(cell, "train", "fail")
    assert fake_job(cell)() == "failed"
    state = read_state(cell.folder)
    # Without what would colour the terminal.
    assert state.error == "error: train \N{REPLACEMENT CHARACTER}[31mwent wrong"
    assert "fake_tool.py train" in (cell.folder / "train.log").read_text()
    assert fake_job(cell)() == "done"


def test_a_crash_of_a_step_is_told_by_its_signal(tmp_path):
    cell = make_cell(tmp_path, "a")
    plan(cell, "train", "crash")
    assert fake_job(cell)() == "failed"
    assert "ended by SIGKILL; its last line: Epoch" in read_state(cell.folder).error


def test_a_step_that_saved_and_asks_for_it_is_run_again(tmp_path):
    cell = make_cell(tmp_path, "a")
    plan(cell, "train", "again stop")
    assert fake_job(cell)() == "again"
    # It got no further: this would go on for ever.
    assert fake_job(cell)() == "failed"
    assert "run again without having saved" in read_state(cell.folder).error
    assert fake_job(cell)() == "done"


def test_what_was_trained_from_other_weights_is_put_aside(tmp_path):
    first = make_cell(tmp_path, "first", tested=False)
    cell = make_cell(tmp_path, "second", start=first)
    fake_job(first)()
    fake_job(cell)()
    first.checkpoint.write_text("trained again, otherwise")
    fake_job(first)()
    assert fake_job(cell)() == "done"
    assert starts(cell, "train") == 1  # of a new folder
    (aside,) = tmp_path.glob("second/replaced/*")
    assert (aside / "last.pth").is_file()
    assert list(aside.glob("records/*.json"))


def test_nothing_starts_from_weights_that_are_not_there(tmp_path):
    first = make_cell(tmp_path, "first", tested=False)
    cell = make_cell(tmp_path, "second", start=first)
    assert fake_job(cell)() == "failed"
    assert "has no weights to start from" in read_state(cell.folder).error


def test_told_to_stop_a_job_lets_its_step_save(tmp_path):
    cell = make_cell(tmp_path, "a")
    plan(cell, "train", "sleep")
    sleeping = cell.folder / "sleeping"

    def tell():
        while not sleeping.is_file():
            time.sleep(0.02)
        signal.raise_signal(signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=tell)
    thread.start()
    assert fake_job(cell)() == "again"
    thread.join()
    assert not sleeping.exists()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert fake_job(cell)() == "done"


def test_without_its_sweep_a_job_stops(tmp_path):
    cell = make_cell(tmp_path, "a")
    plan(cell, "train", "sleep")
    job = fake_job(cell)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    job.sweep = gone.pid
    assert job() == "again"
    assert not (cell.folder / "sleeping").exists()


def test_the_tail_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert tail_of(log) == []
    log.write_bytes(b"x" * 20_000 + b"\n\xff 1 %\r 2 %\nlast\n\n")
    assert tail_of(log)[1:] == ["\N{REPLACEMENT CHARACTER} 1 %", "2 %", "last"]
