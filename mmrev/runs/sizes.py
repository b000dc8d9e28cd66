"""Which images of a data set are of another size than their annotations state."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MMLogger

from mmrev.datasets.annotations import listed
from mmrev.datasets.checked import place_of
from mmrev.datasets.images import CheckImage, other_size, remedy, size_of, turns
from mmrev.errors import UserError

__all__ = ["OTHER_SIZES", "check_image_sizes"]

# What a config's other_sizes may be: what happens where there are some.
OTHER_SIZES = ("refused", "said")
# Headers that are looked at, and seconds after which no further ones are. A data set
# that is wrong throughout shows itself; a single image does when it is loaded.
_MOST, _SECONDS = 1000, 10.0


def check_image_sizes(
    datasets: Sequence[BaseDataset], split: str, other_sizes: str
) -> None:
    """Look for images of another size than their annotations state.

    Each is looked at again when it is loaded, where they are refused.

    Args:
        datasets: of a split, that wrap no other.
        split: its name.
        other_sizes: 'refused', or 'said' in the log.

    Raises:
        UserError: names some, and how many there are among those looked at.
    """
    for dataset in datasets:
        for check in _checks(dataset):
            check.other_sizes = other_sizes
        seen, found = _look(dataset)
        if not found:
            continue
        text = (
            f"{place_of(dataset)} ({split}): {len(found)} of {seen} images that were "
            f"looked at, of {len(dataset)}, are not of the size that their annotations "
            f"state: {listed(found, 3)}"
        )
        if other_sizes == "refused":
            raise UserError(f"{text}; {remedy(text)}.")
        MMLogger.get_current_instance().warning(f"{text}.")


def _look(dataset: BaseDataset) -> tuple[int, list[str]]:
    """What the first process sees, for all: number of images, and what is wrong."""
    shared: list[Any] = [None]
    if is_main_process():
        shared = [list(_compared(dataset))]
    broadcast_object_list(shared)
    return len(shared[0]), list(filter(None, shared[0]))


def _compared(dataset: BaseDataset) -> Iterator[str]:
    """Of some images what is wrong about their size, empty where nothing is."""
    loads = [one.load for one in _checks(dataset)]
    if not loads:
        return
    turned = turns(loads[0])
    end = time.monotonic() + _SECONDS
    places = np.random.default_rng(0).permutation(len(dataset))[:_MOST]
    for info in map(dataset.get_data_info, places.tolist()):
        if None in (info.get("img_path"), info.get("height"), info.get("width")):
            return  # so it is with all of them
        try:
            size = size_of(info["img_path"], turned)
        # One that cannot be read, or only from afar, is found when it is.
        except OSError:
            continue
        said = other_size(info, size, turned)
        yield f"{info['img_path']}: stated {said}" if said else ""
        if time.monotonic() > end:
            return


def _checks(dataset: BaseDataset) -> list[CheckImage]:
    return [one for one in dataset.pipeline.transforms if isinstance(one, CheckImage)]
