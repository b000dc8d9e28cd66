"""Records as files: one JSON each, so that a damaged one harms no other."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError
from pydantic_core import from_json

from mmrev.atomic import write_bytes
from mmrev.leaderboard.record import (
    READABLE_VERSIONS,
    SCHEMA,
    SCHEMA_VERSION,
    MeasuredRecord,
    Record,
)

__all__ = ["UncheckedError", "load_records", "read_record", "save_record"]

MAX_BYTES = 4_000_000


class UncheckedError(ValueError):
    """Nothing to check: no file, no record, a copy, or another version's schema."""


def save_record(record: Record, folder: str | Path) -> Path:
    """Write a record as a new file; whole or not at all.

    Returns:
        The file, named by config or model and id.

    Raises:
        FileExistsError: The folder has the record already.
        ValueError: The record is larger than one may be.
    """
    measured = isinstance(record, MeasuredRecord)
    name = record.config.name if measured else record.model.name
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[:100]
    path = Path(folder) / f"{name}-{record.id[:12]}.json"
    content = record.to_bytes()
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"record {name}: expected at most {MAX_BYTES / 1e6:g} MB, got "
            f"{len(content) / 1e6:.1f} MB."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):
        if path.exists():
            raise FileExistsError(f"{path} is there already")
        write_bytes(path, content)
    return path


def read_record(path: str | Path) -> Record:
    """Read a record, which may come from anybody.

    Raises:
        UncheckedError: It is something else, or of another schema.
        ValueError: Says what is wrong with it.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than a record may be ({MAX_BYTES / 1e6:g} MB)")
    try:
        version = _version(from_json(content))
    except ValueError as error:
        raise ValueError(f"Invalid JSON: {error}") from error
    if version is None:
        raise UncheckedError("not a record: it has no schema_version")
    if version not in READABLE_VERSIONS:
        raise UncheckedError(
            f"schema_version {str(version)[:20]!r} instead of {SCHEMA_VERSION}: "
            + (
                "of a later mmrev; update mmrev"
                if isinstance(version, int) and version > SCHEMA_VERSION
                else "test again with tools/test.py"
            )
        )
    try:
        record = SCHEMA.validate_json(content, strict=True)
    except ValidationError as error:
        raise ValueError(_reason(error)) from error
    if "id" not in record.model_fields_set:
        raise ValueError("id: Field required")
    return record


def _version(content: Any) -> Any:
    return content.get("schema_version") if isinstance(content, dict) else None


def _reason(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    # The first place is the kind.
    where = ".".join(str(place)[:60] for place in first["loc"][1:])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def load_records(
    roots: Iterable[str | Path],
) -> tuple[dict[Path, Record], dict[Path, ValueError]]:
    """Read every record below some folders.

    Args:
        roots: Folders; records lie in ``records/`` folders at any depth, or in the
            given folder itself. A root may be a record's file. A record that several
            roots have is read once.

    Returns:
        The records, measured ones by date, then published ones; and for each file that
        gave none the reason, as `read_record` raises it.
    """
    records, rejected, places = {}, {}, {}
    for root in map(Path, roots):
        # What does not exist is reported below, like what cannot be read.
        files = (
            {*root.glob("*.json"), *root.glob("**/records/*.json")}
            if root.is_dir()
            else {root}
        )
        for path in sorted(files):
            # Opening a pipe would wait for its other end.
            if path.exists() and not path.is_file():
                rejected[path] = UncheckedError("not a file")
                continue
            try:
                record = read_record(path)
            except OSError as error:
                rejected[path] = UncheckedError(error.strerror)
                continue
            except ValueError as error:
                rejected[path] = error
                continue
            first, source = places.setdefault(record.id, (path, root))
            if first == path:
                records[path] = record
            elif source == root:
                rejected[path] = UncheckedError(f"the same record as {first.name}")
    ordered = sorted(records, key=lambda path: _order(path, records[path]))
    return {path: records[path] for path in ordered}, rejected


def _order(path: Path, record: Record) -> tuple:
    if isinstance(record, MeasuredRecord):
        return 0, record.date.isoformat(), path
    return 1, record.model.family, path
