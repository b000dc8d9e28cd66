"""What a suite costs, before any of it is trained."""

import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict

import pytest
from fakes import make_cell

from mmrev.errors import UserError
from mmrev.runs.plan import Price
from mmrev.sweep import pricing
from mmrev.sweep.entries import Entry
from mmrev.sweep.pricing import show_prices
from mmrev.sweep.suite import Run, Suite


@pytest.fixture
def suite(tmp_path):
    return Suite(
        name="priced",
        out=str(tmp_path),
        seeds=[0, 1],
        gpus=8,
        runs={"a": Run(config="a")},
    )


@pytest.fixture
def entries(tmp_path):
    found = []
    for model, left in (("a", ["train", "test"]), ("b", ["test"]), ("c", ["train"])):
        cells = [make_cell(tmp_path, model, seed) for seed in (0, 1)]
        found += [Entry(cell, left=left) for cell in cells]
    found[1].status = "done"
    return found


def keep(suite, model, **price):
    folder = suite.folder / "prices"
    folder.mkdir(exist_ok=True)
    (folder / f"{model}-8.json").write_text(json.dumps(asdict(Price(**price))))


def rows(capsys):
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {line[0]: " ".join(line) for line in lines if line}


def test_the_total_is_of_the_trainings_that_are_left(suite, entries, capsys):
    for model in "abc":
        keep(suite, model, flops=2e12, peak=3e9, seconds=4.0, hours=10.0)
    show_prices(suite, entries, minutes=0)
    found = rows(capsys)
    assert found["a"] == "a 2 train + test (1) 2,000 3 4 10"
    assert found["b"] == "b 2 test 2,000 3 4 0"
    assert found["c"] == "c 2 train 2,000 3 4 20"
    assert found["total,"] == "total, 3 configs 30"


def test_hours_of_a_gpu_follow_from_operations(suite, entries, capsys):
    keep(suite, "c", flops=2e12, peak=3e9, seconds=4.0, hours=1000.0)
    show_prices(suite, entries[4:], minutes=0, tflops=100)
    assert rows(capsys)["c"] == "c 2 train 2,000 3 0.04 20"


def test_what_has_no_price_is_told_and_not_counted(suite, entries, capsys):
    keep(suite, "a", flops=2e9, peak=3e9, seconds=4.0, hours=None)
    (suite.folder / "prices" / "b-8.json").write_text("{}")
    show_prices(suite, entries, minutes=0)
    out = capsys.readouterr().out
    assert "unknown" in out
    assert out.count("not priced yet") == 2
    assert "Not in the total: 3 cells without a price." in out


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("no backbone of mmrev"), "no backbone of mmrev"),
        (BrokenProcessPool(), "ended without a word"),
        (KeyError("scale"), "KeyError: 'scale'"),
    ],
)
def test_a_config_that_cannot_be_priced_keeps_no_other_back(error, reason):
    task = Future()
    task.set_exception(error)
    assert reason in pricing._outcome(task).reason


@pytest.mark.slow
@pytest.mark.ci
def test_prices_are_measured_once(tmp_path, capsys):
    from mmrev.sweep.cells import expand
    from mmrev.sweep.entries import look

    config = "configs/demo/nfnet-demo_crops.py"
    suite = Suite(
        name="a", out=str(tmp_path), seeds=[0, 1], runs={"a": Run(config=config)}
    )
    entries = look(expand(suite))
    show_prices(suite, entries, minutes=10)
    first = capsys.readouterr().out
    (file,) = tmp_path.glob("prices/*.json")
    assert json.loads(file.read_text())["flops"] > 1e6
    show_prices(suite, entries, minutes=0)
    assert capsys.readouterr().out == first
