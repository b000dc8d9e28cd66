"""The data sets inside of wrappers, which join, repeat, balance or mix them.

The wrappers of mmengine, mmdet, mmseg and mmpretrain keep what they wrap as ``dataset``
or ``datasets``, in a config as in what is built of it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["change_settings", "plain_datasets", "plain_settings"]


def plain_settings(settings: Mapping, where: str) -> Iterator[tuple[str, Mapping]]:
    """Walk to the data sets of a config that wrap no other.

    Args:
        settings: Of a data set, wrapped or not.
        where: Its place in the config, as "test_dataloader.dataset".

    Yields:
        The place and the settings of each, in the order of its images.
    """
    if isinstance(inner := settings.get("dataset"), Mapping):
        yield from plain_settings(inner, f"{where}.dataset")
    elif "datasets" in settings:
        for index, inner in enumerate(settings["datasets"]):
            yield from plain_settings(inner, f"{where}.datasets.{index}")
    else:
        yield where, settings


def change_settings(
    settings: Mapping, change: Callable[[Mapping], Mapping]
) -> dict[str, Any]:
    """Put the same wrappers around other data sets.

    Args:
        settings: Of a data set, wrapped or not; they stay as they are.
        change: Makes the new settings of those of a data set that wraps no other; it is
            called in the order of `plain_settings`.
    """
    if isinstance(inner := settings.get("dataset"), Mapping):
        return {**settings, "dataset": change_settings(inner, change)}
    if "datasets" in settings:
        inside = [change_settings(inner, change) for inner in settings["datasets"]]
        return {**settings, "datasets": inside}
    return dict(change(settings))


def plain_datasets(dataset: Any) -> Iterator[Any]:
    """Walk to the built data sets that wrap no other, in the order of their images."""
    if hasattr(dataset, "datasets"):
        for inner in dataset.datasets:
            yield from plain_datasets(inner)
    elif hasattr(dataset, "dataset"):
        yield from plain_datasets(dataset.dataset)
    else:
        yield dataset
