"""A chain of trainings, whose last record tells and proves all of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmrev.checkpoints import load_checkpoint_file
from mmrev.hashes import file_sha256
from mmrev.leaderboard.record import SCHEMA
from mmrev.leaderboard.store import save_record

DET = "work_dirs/det/epoch_2.pth"


@pytest.fixture(scope="module")
def chain(project, train, tmp_path_factory) -> Path:
    """Weights -> first -> second, each in its folder, and a record of the second."""
    root = tmp_path_factory.mktemp("chain")
    weights = load_checkpoint_file(project / DET)["state_dict"]
    prefix = "backbone."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if prefix in k[:9]}
    torch.save({"model": own}, root / "released.pth")
    text = (project / "det.py").read_text()
    init = f"init_cfg=dict(type='Pretrained', checkpoint='{root}/released.pth'), "
    first = text.replace("drop_path_rate=0.1", f"{init}drop_path_rate=0.1")
    (project / "first.py").write_text(first)
    shutil.copy(project / "det.py", project / "second.py")
    short = ["--cfg-options", "train_cfg.max_epochs=1"]
    train("first.py", "--work-dir", root / "first", *short, "randomness.seed=5")
    load_from = f"load_from={root}/first/epoch_1.pth"
    train("second.py", "--work-dir", root / "second", *short, load_from)
    return root


@pytest.fixture
def tested(chain, run, tmp_path, monkeypatch) -> Path:
    """A copy of the chain with a record."""
    if not (chain / "second/records").is_dir():
        checkpoint = chain / "second/epoch_1.pth"
        result = run("test", "second.py", checkpoint, "--work-dir", chain / "second")
        assert result.status == 0, result.err
    monkeypatch.setenv("COLUMNS", "400")  # so that no cell is broken
    root = tmp_path / "chain"
    shutil.copytree(chain, root)
    return root


def verified(run, root) -> tuple[bool, str]:
    """Whether nothing below a folder was altered, and what was said of each part."""
    result = run("leaderboard", "verify", root, "--data-root", "data/coco")
    return result.status == 0, " ".join(re.sub("[│┃]", " ", result.out).split())


def rewrite(record: Path, change: Callable[[dict], None]) -> None:
    """Let a record say something else, under an id that fits."""
    content = json.loads(record.read_text())
    change(content["training"]["lineage"])
    del content["id"]
    record.unlink()
    save_record(SCHEMA.validate_python(content), record.parent)


def test_the_last_record_tells_every_stage(tested, run):
    (path,) = (tested / "second/records").glob("*.json")
    training = json.loads(path.read_text())["training"]
    assert training["pretraining"] == []
    (first,) = training["lineage"]
    (released,) = first.pop("starts")
    assert first == {
        "name": "first",
        "kind": "RetinaNet",
        "data": "CocoDataset annotations/instances_train2017.json",
        "epochs": 1,
        "iterations": 2,
        "seed": 5,
        "checkpoint": {
            "name": "epoch_1.pth",
            "sha256": file_sha256(tested / "first/epoch_1.pth"),
        },
    }
    assert released == {
        "name": "released.pth",
        "kind": "weights",
        "data": "names of mmrev.RevCol",
        "checkpoint": {
            "name": "released.pth",
            "sha256": file_sha256(tested / "released.pth"),
        },
    }
    sound, said = verified(run, tested)
    assert sound
    for part in ("lineage", "stage released.pth", "stage first"):
        assert f"{part} sound" in said


@pytest.mark.parametrize(
    ("file", "what", "said"),
    [
        ("first/epoch_1.pth", "altered", "stage first altered"),
        ("first/epoch_1.pth", "damaged", "stage first altered"),
        ("first/epoch_1.pth", "missing", "stage first not checked no epoch_1.pth;"),
        ("released.pth", "altered", "stage released.pth altered"),
        ("released.pth", "missing", "stage released.pth not checked no released.pth"),
        ("second/epoch_1.pth", "missing", "lineage not checked no sound checkpoint"),
    ],
)
def test_stages_that_are_not_as_they_were(tested, run, file, what, said):
    path = tested / file
    content = bytearray(path.read_bytes())
    path.unlink()
    if what == "altered":
        content[len(content) // 2] ^= 1  # among the weights
        path.write_bytes(content)
    elif what == "damaged":
        path.write_bytes(content[:1000])
    sound, told = verified(run, tested)
    # Other files of its name, as of the second training, are no matter.
    assert said in told and sound == (what == "missing")


def test_a_lineage_that_its_files_contradict(tested, run):
    (record,) = (tested / "second/records").glob("*.json")
    rewrite(record, lambda lineage: lineage[0].update(epochs=12))
    sound, said = verified(run, tested)
    assert not sound and "lineage altered" in said
    assert "tells otherwise of its training" in said
    (record,) = (tested / "second/records").glob("*.json")
    rewrite(record, lambda lineage: lineage.clear())
    sound, said = verified(run, tested)
    assert not sound and "lineage altered" in said and "tells another" in said


def test_a_stage_without_a_hash_is_refused(chain, run, tmp_path):
    content = load_checkpoint_file(chain / "second/epoch_1.pth")
    del content["meta"]["lineage"]["starts"][0]["checkpoint"]
    torch.save(content, tmp_path / "claims.pth")
    load_from = f"load_from={tmp_path}/claims.pth"
    for tool, *argv in (
        ("train", "--cfg-options", load_from),
        ("test", tmp_path / "claims.pth"),
    ):
        result = run(tool, "second.py", *argv, "--work-dir", tmp_path / "run")
        assert result.status == 1
        (line,) = result.err.splitlines()
        assert "got starts.0.checkpoint: Field required. Take the file" in line
        assert "del c['meta']['lineage']; torch.save(c, DST)" in line
        assert not list(tmp_path.rglob("epoch_*.pth"))
    del content["meta"]["lineage"]
    torch.save(content, tmp_path / "claims.pth")
    result = run("test", "second.py", tmp_path / "claims.pth", "--work-dir", tmp_path)
    assert result.status == 0
