"""Records as files: one JSON each, so that a damaged one harms no other."""

import uuid
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from mmrev.atomic import write_bytes

from .record import Record

__all__ = ["load_records", "save_record"]


def save_record(record: Record, folder: str | Path) -> Path:
    """Write a record under a new name; whole or not at all.

    Returns:
        The file, ``<config>-<date>-<random>.json``.
    """
    name = f"{record.config.name}-{record.date:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    path = Path(folder) / f"{name}.json"
    write_bytes(path, record.model_dump_json(indent=2).encode())
    return path


def load_records(
    roots: Iterable[str | Path],
) -> tuple[dict[Path, Record], dict[Path, str]]:
    """Read every record below some folders.

    Args:
        roots: Folders; records lie in ``records/`` folders at any depth, or in the
            given folder itself. A root may be a record's file.

    Returns:
        The records, oldest first, and for each file that is none the reason.
    """
    files = set()
    for root in map(Path, roots):
        # What does not exist is reported below, like what cannot be read.
        if not root.is_dir():
            files.add(root)
        else:
            files.update(root.glob("*.json"), root.glob("**/records/*.json"))
    records, rejected = {}, {}
    for path in sorted(files):
        try:
            records[path] = Record.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            rejected[path] = f"{where}: {first['msg']}" if where else first["msg"]
        except OSError as error:
            rejected[path] = error.strerror
    ordered = sorted(records, key=lambda path: (records[path].date, path))
    return {path: records[path] for path in ordered}, rejected
