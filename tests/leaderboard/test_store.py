"""Records as files, from whoever."""

import json
import multiprocessing
from datetime import datetime, timezone

import pytest
from make_records import measured, published

from mmrev.leaderboard.store import (
    MAX_BYTES,
    UncheckedError,
    load_records,
    read_record,
    save_record,
)


def test_round_trip_and_order(tmp_path):
    later = measured(date=datetime(2027, 1, 1, tzinfo=timezone.utc))
    paths = [save_record(one, tmp_path) for one in (published(), later, measured())]
    assert len(set(paths)) == 3
    records, rejected = load_records([tmp_path])
    assert rejected == {}
    assert list(records) == paths[::-1]
    assert list(records.values()) == [measured(), later, published()]


def test_a_record_is_stored_once(tmp_path):
    path = save_record(measured(), tmp_path)
    with pytest.raises(FileExistsError, match=path.name.replace(".", r"\.")):
        save_record(measured(), tmp_path)
    # Under another name it is refused, in another folder it is the same.
    (tmp_path / "copy.json").write_bytes(path.read_bytes())
    records, rejected = load_records([tmp_path])
    assert list(records) == [path]
    reasons = {path: str(reason) for path, reason in rejected.items()}
    assert reasons == {tmp_path / "copy.json": f"the same record as {path.name}"}
    other = tmp_path / "other"
    save_record(measured(), other)
    assert load_records([path, other]) == ({path: measured()}, {})


def test_names_stay_inside_the_folder(tmp_path):
    path = save_record(measured(config={"name": "../../etc/passwd"}), tmp_path / "a")
    assert path.parent == tmp_path / "a" and path.name.startswith("etc-passwd-")
    hostile = measured(config={"name": "<script>"})
    assert save_record(hostile, tmp_path).name.startswith("script-")


def test_finds_records_folders_at_any_depth(tmp_path):
    path = save_record(measured(), tmp_path / "det/run/records")
    (tmp_path / "det/run/scalars.json").write_text("{}")
    assert load_records([tmp_path]) == ({path: measured()}, {})
    assert load_records([path])[0] == {path: measured()}


def test_damaged_and_foreign_files_are_named_and_harm_no_other(tmp_path):
    good = save_record(measured(), tmp_path)
    text = good.read_text()
    small = json.loads(text)
    files = {
        "half": text[: len(text) // 2],
        "binary": b"\xff\xfe\x00",
        "other": '{"loss": 1}',
        "list": "[1]",
        "future": text.replace('"schema_version": 7', '"schema_version": 8'),
        "past": text.replace('"schema_version": 7', '"schema_version": 1'),
        "nan": text.replace("0.4904", "NaN"),
        "range": text.replace("0.4904", "49.04"),
        "text": text.replace("0.4904", '"0.4904"'),
        "altered": text.replace("0.4904", "0.4905"),
        "no_id": json.dumps({k: v for k, v in small.items() if k != "id"}),
        "huge": text.replace("revcol-t", "n" * 10_000_000),
        "long": text.replace("revcol-t", "n" * 1000),
        "long_key": text.replace("coco/bbox_mAP_s", "k" * 1_000_000),
        "deep": '{"schema_version": 7, "a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "escape": text.replace("revcol-t", "\\u001b[31m"),
        "kind": text.replace('"measured"', '"guessed"'),
        "empty": "",
    }
    for name, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        (tmp_path / f"{name}.json").write_bytes(content)
    records, rejected = load_records([tmp_path, tmp_path / "nowhere"])
    assert list(records) == [good]
    reasons = {path.stem: str(reason) for path, reason in rejected.items()}
    unchecked = {p.stem for p, e in rejected.items() if isinstance(e, UncheckedError)}
    assert unchecked == {"other", "list", "future", "past", "nowhere"}
    assert reasons.keys() == {*files, "nowhere"}
    for name, said in {
        "half": "Invalid JSON",
        "other": "no schema_version",
        "future": "update mmrev",
        "past": "test again with tools/test.py",
        "nan": "metrics: coco/bbox_mAP: expected a finite number",
        "range": r"metrics: coco/bbox_mAP: expected 0..1, or -1",
        "text": "metrics.coco/bbox_mAP: Input should be a valid number",
        "altered": "altered",
        "no_id": "id: Field required",
        "huge": f"larger than a record may be ({MAX_BYTES / 1e6:g} MB)",
        "long": "model.name: String should have at most 200 characters",
        "deep": "Invalid JSON",
        "escape": "model.name: expected printable characters",
        "kind": "guessed",
    }.items():
        assert said in reasons[name], (name, reasons[name])
    assert max(map(len, reasons.values())) < 300


def test_a_record_that_nobody_could_read_is_not_written(tmp_path):
    resolved = {"text": "x" * MAX_BYTES}
    with pytest.raises(ValueError, match="at most 4 MB, got 4"):
        save_record(measured(config={"resolved": resolved}), tmp_path)
    assert not list(tmp_path.iterdir())


def _write(folder, start, barrier, results):
    barrier.wait()
    for number in range(20):
        # The first ten of both writers are the same records.
        own = number if number < 10 else number + start
        try:
            save_record(measured(wall_time=float(own)), folder)
            results.put("saved")
        except FileExistsError:
            results.put("there")


def test_two_writers_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    writers = [
        context.Process(target=_write, args=(tmp_path, start, barrier, results))
        for start in (100, 200)
    ]
    for writer in writers:
        writer.start()
    told = [results.get(timeout=60) for _ in range(40)]
    for writer in writers:
        writer.join()
    records, rejected = load_records([tmp_path])
    assert rejected == {} and len(records) == 30
    assert (told.count("saved"), told.count("there")) == (30, 10)
    read = [read_record(path).wall_time for path in records]
    assert set(read) == {*range(10), *range(110, 120), *range(210, 220)}
