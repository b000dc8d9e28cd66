"""Hashes that tell whether two numbers were measured on the same thing."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrev.hashes import add_files, file_sha256, files_below
from mmrev.paths import below, is_below
from mmrev.wrappers import change_settings

__all__ = [
    "annotations_of",
    "config_sha256",
    "dataset_sha256",
    "joined_sha256",
    "plain_sha256",
    "portable",
]

# Where a run happens and what is expected of it, not what is run.
_NOT_WHAT_IS_RUN = {
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
    "data_root",
    "expected_results",
}


def config_sha256(config: Mapping[str, Any]) -> str:
    """Hash the `portable` form of a resolved config."""
    text = json.dumps(portable(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a resolved config is run, as JSON has it.

    Left out, at any depth: work folder, logging, default hooks, environment and data
    root, the last also at the start of other paths; and the expected results.
    """
    return _portable(config, sorted(_data_roots(config), key=len, reverse=True))


def _data_roots(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(root := value.get("data_root"), str) and root:
            yield root
        for item in value.values():
            yield from _data_roots(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _data_roots(item)


def _portable(value: Any, roots: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): _portable(item, roots)
            for key, item in value.items()
            if key not in _NOT_WHAT_IS_RUN
        }
    if isinstance(value, (list, tuple)):
        return [_portable(item, roots) for item in value]
    if isinstance(value, str):
        return below(value, next((root for root in roots if is_below(value, root)), ""))
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)  # JSON has no infinity


def annotations_of(dataset: Any) -> tuple[str | None, list[str]]:
    """The annotation file of a data set, and folders: what `dataset_sha256` takes.

    Beside an annotation file these are the folders of label maps alone, as it names the
    images.

    Args:
        dataset: Of mmdet, mmseg or mmpretrain, without wrappers.
    """
    prefix = getattr(dataset, "data_prefix", None) or {}
    annotations = getattr(dataset, "ann_file", None) or None
    wanted = [name for name in prefix if annotations is None or "seg" in name]
    return annotations, [prefix[name] for name in wanted if prefix[name]]


def plain_sha256(dataset: Any, settings: Mapping[str, Any]) -> str:
    """Hash what a data set is evaluated by.

    Args:
        dataset: As of `annotations_of`.
        settings: `portable` form of the settings of the test's data, wrappers included:
            of a data set without files they are hashed, but for the pipeline.
    """
    annotations, folders = annotations_of(dataset)
    if annotations or folders:
        return dataset_sha256(annotations, folders)
    return config_sha256(change_settings(settings, _without_pipeline))


def joined_sha256(fingerprints: Sequence[str]) -> str:
    """Hash the fingerprints of data sets that are tested together, if several."""
    if len(fingerprints) == 1:
        return fingerprints[0]
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


def _without_pipeline(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "pipeline"}


def dataset_sha256(
    annotation_file: str | Path | None, folders: list[str | Path]
) -> str:
    """Hash the annotations that a data set is evaluated by.

    Args:
        annotation_file: Hashed whole, where there is one.
        folders: Of `annotations_of`: sorted names, sizes and the first 64 KiB of every
            file, which bounds the cost for large sets and holds a label map of usual
            size entirely.
    """
    if annotation_file is not None and not folders:
        return file_sha256(annotation_file)
    digest = hashlib.sha256()
    if annotation_file is not None:
        digest.update(file_sha256(annotation_file).encode())
    for folder in folders:
        add_files(digest, folder, files_below(folder), 64 * 1024)
    return digest.hexdigest()
