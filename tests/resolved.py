"""Configs of the suite, each read once for all tests: bases take most of the time."""

from functools import cache
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope

import mmrev  # noqa: F401  (makes mmseg:: bases resolve)
from mmrev.runs.track import apply_track

CONFIGS = Path(__file__).parents[1] / "configs"


@cache
def _read(path: Path) -> Config:
    cfg = Config.fromfile(path)
    apply_track(cfg)
    return cfg


def resolve(path: str | Path) -> Config:
    """Give a config as a copy of its own.

    Args:
        path: absolute, or of `CONFIGS` without suffix.
    """
    path = Path(path)
    if not path.is_absolute():
        path = CONFIGS / f"{path}.py"
    read = _read(path)
    return Config(read.to_dict(), filename=read.filename)


def use_scope(scope: str) -> None:
    """Set the default scope, of which mmengine keeps the first one otherwise."""
    DefaultScope._instance_dict.clear()
    init_default_scope(scope)
