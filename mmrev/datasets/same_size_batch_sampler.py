"""Batches for validation and test whose images need no padding."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from mmengine.dataset import BaseDataset, DefaultSampler
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MMLogger
from torch.utils.data import BatchSampler, Dataset, Sampler

from mmrev.datasets.resized import Views, resized_sizes
from mmrev.errors import UserError
from mmrev.registry import DATA_SAMPLERS
from mmrev.wrappers import plain_datasets

__all__ = ["SameSizeBatchSampler"]


@DATA_SAMPLERS.register_module()
class SameSizeBatchSampler(BatchSampler):
    """Puts images of one size together, in validation and test.

    The size is the one after the pipeline, see `resized_sizes`. What a model predicts
    is then the same as with batches of 1: nothing is padded that would not be there.

    Batches of the most pixels come first, so that what does not fit into memory shows
    at once, and processes, which take them in turn, end at about the same time. Every
    image comes once, in whatever number of processes: one may have a batch less than
    another, or none. What is left of a size is a smaller batch, and an image whose size
    cannot be told is one by itself. An image that cannot be read is left out of its
    batch, where the metrics allow it.

    With ``batch_size=1`` no size is asked for, and the order is the data set's.

    Args:
        sampler: mmengine's DefaultSampler that does not shuffle, of a data set, or of
            several that ConcatDataset joins.
        batch_size: the most images of a batch.

    Raises:
        ValueError: the sampler is another one, the data set is wrapped otherwise, or
            sizes cannot be told.
    """

    def __init__(self, sampler: Sampler, batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        if not isinstance(sampler, DefaultSampler) or sampler.shuffle:
            kind = type(sampler).__name__
            shuffle = getattr(sampler, "shuffle", False)
            raise ValueError(
                "SameSizeBatchSampler is for validation and test: expected "
                "sampler=dict(type='DefaultSampler', shuffle=False), got "
                f"{kind}{' that shuffles' if shuffle else ''}; in training leave "
                "batch_sampler out."
            )
        dataset = sampler.dataset
        if batch_size == 1:
            batches = [[index] for index in range(len(dataset))]
        else:
            batches = _batches(_sizes(dataset), batch_size)
            dataset.__getitems__ = _SameSizeItems(dataset)
        self.batches = batches[sampler.rank :: sampler.world_size]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Batch(list):
    """The indices of a batch, and the size that its images are to have."""

    def __init__(self, indices: Sequence[int], size: Views | None):
        super().__init__(indices)
        self.size = size

    @property
    def pixels(self) -> int:
        """Of all views of all images; 0 where that is unknown."""
        return len(self) * sum(height * width for height, width in self.size or ())


def _sizes(dataset: Dataset) -> list[Views | None]:
    """The size of each image; all processes hear of those that the first one read."""
    parts = list(plain_datasets(dataset))
    joined = sum(map(len, parts)) == len(dataset)
    if not joined or not all(isinstance(one, BaseDataset) for one in parts):
        raise ValueError(
            "SameSizeBatchSampler: expected a data set of mmdet, mmseg or mmpretrain, "
            f"or a ConcatDataset of such, got {type(dataset).__name__}; set "
            "batch_size=1."
        )
    sizes = [resized_sizes(one) for one in parts]
    shared = [list(chain(*sizes)) if is_main_process() else None]
    broadcast_object_list(shared)
    if unknown := shared[0].count(None):
        first = dataset.get_data_info(shared[0].index(None))["img_path"]
        MMLogger.get_current_instance().warning(
            f"{unknown} of {len(shared[0])} images are tested by themselves, since "
            f"their size cannot be told: {first}{' and others' * (unknown > 1)}"
        )
    return shared[0]


def _batches(sizes: Sequence[Views | None], most: int) -> list[_Batch]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        groups[index if size is None else size].append(index)
    batches = [
        _Batch(indices[start : start + most], sizes[indices[0]])
        for indices in groups.values()
        for start in range(0, len(indices), most)
    ]
    return sorted(batches, key=lambda batch: batch.pixels, reverse=True)


class _SameSizeItems:
    """Loads a batch, in whatever process; to be set as the data set's ``__getitems__``.

    By that torch's loader asks for all items of a batch at once.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __call__(self, batch: _Batch) -> list[dict[str, Any]]:
        """The items of a batch.

        Raises:
            UserError: one is of another size than the others; names its image.
        """
        items = {index: self.dataset[index] for index in batch}
        # Another image stands in the place of one that cannot be read, and of any size.
        own = [item for index, item in items.items() if self._is_own(index, item)]
        own = own or [items[batch[0]]]
        sizes = [_views_of(item) for item in own]
        if len(set(sizes)) > 1:
            odd = next(place for place, one in enumerate(sizes) if one != batch.size)
            raise UserError(
                f"{_path_of(own[odd])}: expected an image of {_told(batch.size)} after "
                f"the pipeline, as the others of its batch, got {_told(sizes[odd])}; "
                "mend the height and width that its annotations state, or set "
                "batch_size=1."
            )
        return own

    def _is_own(self, index: int, item: dict[str, Any]) -> bool:
        path = _path_of(item)
        return path in (None, self.dataset.get_data_info(index)["img_path"])


def _views_of(item: dict[str, Any]) -> Views:
    inputs = item["inputs"]
    views = inputs if isinstance(inputs, list) else [inputs]
    return tuple(tuple(view.shape[-2:]) for view in views)


def _path_of(item: dict[str, Any]) -> str | None:
    sample = item["data_samples"]
    return (sample[0] if isinstance(sample, list) else sample).get("img_path")


def _told(views: Views) -> str:
    return ", ".join(f"{width} x {height}" for height, width in dict.fromkeys(views))
