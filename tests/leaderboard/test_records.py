"""Records: form, files, hashes, table."""

from datetime import datetime, timezone
from io import StringIO

import pytest
from pydantic import ValidationError
from rich.console import Console

from mmrev.leaderboard import Record, load_records, markdown, save_record, terminal
from mmrev.leaderboard.environment import hardware, software
from mmrev.leaderboard.fingerprint import config_sha256, dataset_sha256

HASH = "0123456789abcdef" * 4


def record(**changes) -> Record:
    fields = {
        "date": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "wall_time": 1.5,
        "config": {"name": "a|b", "sha256": HASH, "tta": False},
        "checkpoint": {"name": "epoch_1.pth", "sha256": HASH},
        "dataset": {
            "type": "CocoDataset",
            "split": "val",
            "fingerprint": HASH,
            "images_expected": 4,
            "images_evaluated": 4,
        },
        "model": {
            "type": "DINO",
            "backbone": "RevCol",
            "params": 47_600_000,
            "flops": 235_000_000_000,
            "flops_shape": (800, 1216),
        },
        "metrics": {"coco/bbox_mAP": 0.4904, "coco/bbox_mAP_s": None},
        "protocols": ["COCO"],
        "predictions": None,
        "seeds": {"train": None, "test": 1},
        "software": software(),
        "hardware": hardware(),
    }
    return Record(**{**fields, **changes})


def test_round_trip_and_order(tmp_path):
    later = record(date=datetime(2027, 1, 1, tzinfo=timezone.utc))
    late, early = save_record(later, tmp_path), save_record(record(), tmp_path)
    again = save_record(record(), tmp_path)
    assert len({late, early, again}) == 3
    records, rejected = load_records([tmp_path])
    assert rejected == {}
    assert list(records) == [*sorted([early, again]), late]
    assert records[late] == later and records[early] == record()


def test_finds_records_folders_at_any_depth(tmp_path):
    path = save_record(record(), tmp_path / "det/run/records")
    (tmp_path / "det/run/scalars.json").write_text("{}")
    assert load_records([tmp_path]) == ({path: record()}, {})
    assert load_records([path])[0] == {path: record()}


def test_damaged_and_foreign_files_are_named_and_harm_no_other(tmp_path):
    good = save_record(record(), tmp_path)
    text = good.read_text()
    (tmp_path / "half.json").write_text(text[: len(text) // 2])
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "other.json").write_text('{"loss": 1}')
    (tmp_path / "future.json").write_text(
        text.replace('"schema_version": 1', '"schema_version": 2')
    )
    records, rejected = load_records([tmp_path, tmp_path / "nowhere"])
    assert list(records) == [good]
    reasons = {path.name: reason for path, reason in rejected.items()}
    assert reasons.keys() == {
        *("half.json", "binary.json", "other.json", "future.json", "nowhere")
    }
    assert "schema_version" in reasons["future.json"]
    assert "JSON" in reasons["half.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"name": "a", "sha256": "short", "tta": False}},
        {"unknown": 1},
        {"metrics": {"mIoU": "high"}},
    ],
)
def test_form_is_strict(changes):
    with pytest.raises(ValidationError):
        record(**changes)


def test_config_hash_ignores_machine_and_key_order():
    config = {
        "model": {"depth": 2, "width": 3},
        "work_dir": "here",
        "data": [{"b": (1, 2)}],
    }
    other = {
        "data": [{"b": [1, 2]}],
        "work_dir": "there",
        "model": {"width": 3, "depth": 2},
    }
    assert config_sha256(config) == config_sha256(other)
    assert config_sha256(config) != config_sha256({**config, "model": {"depth": 3}})


def test_dataset_hash_sees_names_contents_and_sizes(tmp_path):
    def hashed(files: dict[str, bytes]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return dataset_sha256(None, [folder])

    files = {"a/1.png": b"one", "2.png": b"two"}
    same = hashed(files)
    assert hashed(dict(reversed(files.items()))) == same
    long = bytes(70_000)
    others = [
        hashed({"a/1.png": b"one", "2.png": b"tw0"}),
        hashed({"a/1.png": b"one", "3.png": b"two"}),
        hashed({"a/1.png": b"one"}),
        hashed({**files, "3.png": long}),
        hashed({**files, "3.png": long + b"0"}),
    ]
    assert len({same, *others}) == 6


def test_markdown_has_one_row_each_and_escapes():
    lines = markdown([record(), record()]).splitlines()
    assert len(lines) == 4
    assert r"a\|b" in lines[2] and "bbox_mAP 0.4904" in lines[2]
    assert "47.6M" in lines[2] and "235G @ 800x1216" in lines[2]
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_incomplete_test_is_visible():
    dataset = dict(record().dataset.model_dump(), images_evaluated=3, images_expected=4)
    assert "3 of 4" in markdown([record(dataset=dataset)])


def test_terminal_table_shows_every_record():
    text = StringIO()
    Console(file=text, width=80).print(terminal([record()]))
    for part in ("a|b", "CocoDataset", "bbox_mAP 0.4904", "47.6M"):
        assert part in text.getvalue()
