"""The figures that papers and repositories print, one file a family.

A file is a list of blocks; what the rows of a block have in common stands once, and a
row adds to it.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from mmrev.leaderboard.record import PublishedRecord

__all__ = ["published_records"]


def published_records() -> list[PublishedRecord]:
    """Every published figure that ships with the package, by family."""
    paths = [p for p in files(__name__).iterdir() if p.name.endswith(".json")]
    return [
        PublishedRecord(**_merged(block["common"], row))
        for path in sorted(paths, key=lambda path: path.name)
        for block in json.loads(path.read_text(encoding="utf-8"))
        for row in block["rows"]
    ]


def _merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(common)
    for key, value in own.items():
        shared = merged.get(key)
        both = isinstance(shared, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(shared, value) if both else value
    return merged
