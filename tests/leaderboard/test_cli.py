"""The commands of tools/leaderboard.py, on records that no model had to make."""

import hashlib
import json
import subprocess
from argparse import ArgumentParser
from typing import NamedTuple

import pytest
from make_records import RESOLVED, measured, published

from mmrev.leaderboard.arguments import add_commands
from mmrev.leaderboard.cli import run as run_command
from mmrev.leaderboard.store import save_record


class Result(NamedTuple):
    status: int | str
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """Run a command: ``run("list", "--kind", "all")``."""

    def call(*argv) -> Result:
        capsys.readouterr()
        status = 0
        try:
            parser = ArgumentParser()
            add_commands(parser)
            run_command(parser.parse_args([str(argument) for argument in argv]))
        except SystemExit as stop:
            status = stop.code
        return Result(status, *capsys.readouterr())

    return call


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def saved(folder, **changes):
    return save_record(measured(**changes), folder / "work_dirs/run/records")


def test_list_filters_and_names_what_it_skips(run, folder):
    path = saved(folder)
    (path.parent / "half.json").write_text(path.read_text()[:100])
    (path.parent / "foreign.json").write_text(json.dumps({"a": 1}))
    result = run("list")
    assert result.status == 0 and "a|b" in result.out and "measured" in result.out
    assert "half.json: Invalid JSON" in result.err
    assert "foreign.json: not a record" in result.err
    assert "RevCol-T" not in result.out
    result = run("list", "--kind", "all", "--family", "revcol")
    assert "RevCol-T" in result.out and "a|b" in result.out
    assert "Swin" not in result.out
    result = run("list", "--format", "markdown", "--params", 40, 50)
    assert result.out.count("\n") == 3 and r"| a\|b |" in result.out
    for wanted in (("--dataset", "ADE20K"), ("--task", "classification")):
        result = run("list", *wanted)
        assert "error: no record in work_dirs that was asked for" in result.status
    result = run("list", folder / "nowhere")
    assert "nowhere: No such file" in result.err and "no record in" in result.status


def test_show_and_diff(run, folder):
    one = saved(folder)
    other = saved(folder, metrics={"coco/bbox_mAP": 0.5})
    result = run("show", one)
    for name in ("checkpoint.sha256", "config.resolved.model.type", "speed.batch"):
        assert name in result.out
    ids = [json.loads(path.read_text())["id"] for path in (one, other)]
    result = run("diff", ids[0][:8], ids[1])
    assert result.status == 0
    assert "0.4904" in result.out and "+0.0096" in result.out
    assert "wall_time" not in result.out
    result = run("show", "f" * 64)
    assert "expected a file or the beginning of one id" in result.status


def test_a_store_takes_sound_records_once(run, folder):
    one, other = saved(folder), saved(folder, wall_time=2.0)
    broken = folder / "broken.json"
    broken.write_text(one.read_text().replace("0.4904", "0.4905"))
    result = run("add", one, broken, other)
    assert result.status == 1
    assert "refused" in result.err and "broken.json: altered" in result.err
    assert result.out.count("added leaderboard/records/") == 2
    again = run("add", one)
    assert again.status == 1 and "is there already" in again.err
    assert len(list((folder / "leaderboard/records").glob("*.json"))) == 2
    # The same records in two places are listed once: two tests of one checkpoint.
    assert run("list", "--format", "markdown").out.count("\n") == 3
    paper = save_record(published(), folder / "papers")
    assert run("add", paper, "--store", "own").status == 0
    copied = run("add", other, "--predictions", "copy", "--store", "o")
    assert copied.status == 1 and "no predictions to copy" in copied.err
    assert not (folder / "o").exists()


def test_predictions_are_copied_with_a_record_and_found_there(run, folder):
    content = b"some predictions"
    digest = hashlib.sha256(content).hexdigest()
    stated = {"name": "out.npz", "sha256": digest, "format": "mmrev-predictions-1"}
    path = saved(folder, predictions=stated)
    assert run("add", path, "--predictions", "copy").status == 1
    (folder / "work_dirs/run/out.npz").write_bytes(content)
    assert run("add", path, "--predictions", "copy").status == 0
    assert (folder / f"leaderboard/predictions/{digest}.npz").read_bytes() == content
    result = run("verify", "leaderboard")
    lines = {line.split("│")[2].strip(): line for line in rows(result.out)}
    assert "sound" in lines["predictions"] and "not checked" in lines["checkpoint"]


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("│")]


def test_verify_names_the_altered_file(run, folder):
    path = saved(folder)
    assert run("verify").status == 0
    (folder / "work_dirs/run/epoch_1.pth").write_bytes(b"other weights")
    result = run("verify")
    assert "not everything is as its record says" in result.status
    assert "epoch_1.pth hashes to another" in result.out.replace("\n", "")
    path.write_text(path.read_text().replace("0.4904", "0.4905"))
    result = run("verify", "work_dirs")
    assert "error" in result.status and "altered: its id is" in result.out
    (folder / "nothing").mkdir()
    assert "no record to verify" in run("verify", "nothing").status


def test_verify_of_what_is_no_record(run, folder):
    path = saved(folder)
    (path.parent / "stitches.json").write_text(json.dumps([{"flops": 1}]))
    (folder / "work_dirs/plot.json").write_text(json.dumps({"schema": 1}))
    result = run("verify")
    assert result.status == 0
    states = [row.split("│")[3].strip() for row in rows(result.out)]
    assert states.count("altered") == 0
    text = result.out.replace("\n", "")
    assert "stitches.json" in text and "plot.json" in text and "not a record" in text
    for wanted, reason in (
        ("nowhere.json", "No such file or directory"),
        ("work_dirs/plot.json", "not a record: it has no schema_version"),
    ):
        result = run("verify", wanted)
        assert result.status == f"error: {wanted}: {reason}"
        assert "altered" not in result.out
    # Half a record may be a record that somebody cut.
    (path.parent / "half.json").write_text(path.read_text()[:100])
    result = run("verify")
    assert "not everything is as its record says" in result.status


def test_signatures(run, folder):
    for command in (
        "genpkey -algorithm ed25519 -out key.pem",
        "pkey -in key.pem -pubout -out public.pem",
        "genpkey -algorithm ed25519 -out other.pem",
        "pkey -in other.pem -pubout -out others.pem",
    ):
        subprocess.run(["openssl", *command.split()], check=True, cwd=folder)
    path = saved(folder)
    assert run("add", path, "--sign", "key.pem").status == 0
    verify = ("verify", "leaderboard", "--public-key")
    assert run(*verify, "public.pem").status == 0
    result = run(*verify, "others.pem")
    assert "error" in result.status and "another key" in result.out.replace("\n", "")
    (stored,) = (folder / "leaderboard/records").glob("*.json")
    stored.with_suffix(".sig").write_text("no hex")
    assert "error" in run(*verify, "public.pem").status
    stored.with_suffix(".sig").unlink()
    assert "does not exist" in run(*verify, "public.pem").out.replace("\n", "")
    for key in (path, "public.pem", "nowhere.pem"):
        result = run("add", path, "--sign", key, "--store", "s")
        assert "error" in result.status and str(key) in result.status
    assert not (folder / "s").exists()


def test_schema_is_printed(run):
    result = run("schema")
    assert "MeasuredRecord" in json.loads(result.out)["$defs"]


def test_markup_and_control_characters_of_a_record_do_nothing(run, folder):
    resolved = {**RESOLVED, "text": "\x1b[2J<script>"}
    path = saved(folder, config={"name": "[bold]<script>", "resolved": resolved})
    for command in (("list",), ("show", path), ("verify", path)):
        result = run(*command)
        assert result.status == 0 and "\x1b" not in result.out + result.err
    assert "[bold]" in run("show", path).out
    (path.parent / "\x1b[31m.json").write_text("{")
    for command in (("list",), ("verify",), ("add", path.parent / "\x1b[31m.json")):
        result = run(*command)
        assert "\x1b" not in f"{result.status}{result.out}{result.err}"
