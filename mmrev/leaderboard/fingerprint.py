"""Hashes that tell whether two numbers were measured on the same thing."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["config_sha256", "dataset_sha256", "file_sha256"]

# Where a run happens, not what is run.
_OF_THE_MACHINE = {
    "work_dir",
    "launcher",
    "load_from",
    "resume",
    "env_cfg",
    "log_level",
    "log_processor",
    "visualizer",
    "vis_backends",
    "default_hooks",
    "custom_hooks",
    "data_root",
}


def file_sha256(path: str | Path) -> str:
    """Hash a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def config_sha256(config: Mapping[str, Any]) -> str:
    """Hash a resolved config, without what depends on the machine alone.

    Left out, at any depth: work folder, logging, hooks, environment and data root.
    """
    text = json.dumps(_portable(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _portable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): _portable(item)
            for key, item in value.items()
            if key not in _OF_THE_MACHINE
        }
    if isinstance(value, (list, tuple)):
        return [_portable(item) for item in value]
    return value


def dataset_sha256(
    annotation_file: str | Path | None, folders: list[str | Path]
) -> str:
    """Hash the annotations that a data set is evaluated by.

    Args:
        annotation_file: Hashed whole, where there is one: it also names the images.
        folders: Otherwise the folders of images and of annotation maps: sorted names,
            sizes and the first 64 KiB of every file, which bounds the cost for large
            sets and holds a label map of usual size entirely.
    """
    if annotation_file is not None:
        return file_sha256(annotation_file)
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(_files(folder)):
            with open(path, "rb") as file:
                start = file.read(64 * 1024)
                size = os.fstat(file.fileno()).st_size
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name}\0{size}\0".encode())
            digest.update(hashlib.sha256(start).digest())
    return digest.hexdigest()


def _files(folder: str | Path) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.is_file()]
