"""What a terminal shows of a sweep."""

import io
from dataclasses import replace
from itertools import product

import pytest
from fakes import fake_job, make_cell
from rich.console import Console

from mmrev.sweep.entries import Entry
from mmrev.sweep.state import State, write_state
from mmrev.sweep.view import View, runs_table


@pytest.fixture
def entries(tmp_path):
    statuses = ("done", "done", "running", "running", "failed", "waiting", "waiting")
    cells = [make_cell(tmp_path, f"model-{n}") for n in range(len(statuses))]
    found = [Entry(c, status=s) for c, s in zip(cells, statuses, strict=True)]
    found[4].error = "error: [bold]disk full"
    found[6].failures = 1
    return found


def drawn(table):
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_every_cell_has_a_row(entries):
    state = State(step="train", seconds={"train": 3700.2, "test": 20})
    running = entries[2].cell
    write_state(running.folder, state)
    (running.folder / "train.log").write_text(
        "01/02 03:04:05 - mmengine - INFO - Epoch(train) [2][ 25/250]  lr: 1e-4  "
        "eta: 1 day, 0:05:13  time: 0.3\n01/02 03:04:05 - mmengine - INFO - Saving\n"
    )
    text = drawn(View("full", entries).table())
    assert "full: 7 cells, 2 running, 1 failed, 2 waiting, 2 done; 0:00" in text
    assert all(f"model-{n}" in text for n in range(7))
    row = next(line for line in text.splitlines() if "model-2" in line)
    assert row.split(maxsplit=2)[2].startswith("train")
    assert "[2][25/250] 1 day, 0:05:13 left" in row
    assert "1:02:00" in row
    assert "queued" in text  # of a job that has not begun
    assert "to retry" in text
    assert "error: [bold]disk full" in text


def test_where_there_is_little_room_what_matters_is_shown(entries):
    text = drawn(View("full", entries).table(4))
    shown = [n for n in range(7) if f"model-{n}" in text]
    assert shown == [2, 3, 4, 5]
    assert "and 2 done, 1 waiting" in text


def test_without_a_terminal_each_event_is_a_line(entries, capsys):
    with View("full", entries) as view:
        view.say(entries[0], "job 1: train")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(" model-0 seed 0: job 1: train")


def test_runs_of_one_config_are_told_apart(tmp_path):
    entries = []
    for run, seed in product(("frozen", "tuned"), range(3)):
        cell = replace(make_cell(tmp_path / run, "net_dino", seed), run=run)
        entries.append(Entry(cell, status="waiting"))
        if run == "frozen" and seed < 2:
            outcome = fake_job(cell)()
            assert outcome == "done"
    text = drawn(runs_table(entries))
    frozen, tuned = (line for line in text.splitlines() if "net_dino" in line)
    assert frozen.split()[1:5] == ["frozen", "2", "of", "3"]
    assert "bbox_mAP 0.405 ± 0.0071 (n=2)" in frozen
    assert "0 of 3" in tuned and "not run" in tuned


def test_without_options_the_leaderboard_says_it_all(entries):
    assert runs_table(entries) is None


def test_what_failed_is_told_at_the_end(entries, capsys):
    View("full", entries).conclude()
    out = capsys.readouterr().out
    assert "model-4 seed 0" in out
    assert "error: [bold]disk full" in out
    assert "train.log" in out
