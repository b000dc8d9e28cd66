"""Items of a data set of which some images cannot be read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger

from mmrev.datasets.images import CheckImage, UnreadableError, fault_of
from mmrev.errors import UserError

__all__ = [
    "NotedBatch",
    "Notes",
    "NotingCollate",
    "ReadableItems",
    "log_unreadable",
    "note_unreadable",
    "refuse_unreadable",
]


@dataclass
class Notes:
    """What was met while the items of a batch were loaded.

    Attributes:
        unreadable: path and fault of the files in whose place another image stands.
        redrawn: paths of the images that a transform left out, so that mmengine drew
            another.
    """

    unreadable: list[tuple[str, str]]
    redrawn: list[str]


# Of this process; a loader loads and joins the items of one batch after the other.
_NOTES = Notes([], [])


def refuse_unreadable(error: UnreadableError) -> None:
    """End the run.

    Raises:
        UserError: names the file and its fault.
    """
    raise UserError(
        f"{error.path}: expected an image, got {error.fault}; replace it. Training may "
        "skip a share of such images (unreadable_images=0.01 in the config), tests by "
        "metrics of mmrev leave them out. tools/check_data.py names all of them."
    ) from error


def log_unreadable(error: UnreadableError) -> None:
    """Say it, whatever process loads."""
    # As an error, since only those are seen of every process.
    logger = MMLogger.get_current_instance()
    logger.error(f"left out, as it cannot be read: {error}")


def note_unreadable(error: UnreadableError) -> None:
    """Note it for who gets the batch, see `NotingCollate`."""
    _NOTES.unreadable.append((error.path, error.fault))


class ReadableItems:
    """Prepares the items of a data set; to be set as its ``prepare_data``.

    In the place of an image that cannot be read stands the next one by its number that
    can be: the same at any time, in any process. Loaders of all processes keep their
    number of batches, so that no process waits for another.

    Args:
        dataset: of mmdet, mmseg, mmpretrain or mmengine, that wraps no other.

    Attributes:
        met: is told of each image that cannot be read, and may raise.
    """

    def __init__(self, dataset: BaseDataset):
        self.dataset = dataset
        self.met: Callable[[UnreadableError], None] = refuse_unreadable
        transforms = []
        for transform in dataset.pipeline.transforms:
            transforms.append(transform)
            if isinstance(transform, LoadImageFromFile):
                # Else it gives nothing in the place of what it cannot load, and so do
                # transforms that have reasons to leave out an image.
                transform.ignore_empty = False
                transforms.append(CheckImage(transform))
        dataset.pipeline.transforms = transforms

    def __call__(self, index: int) -> Any:
        """Load an item, or the next one that can be.

        Returns:
            What the pipeline gives; None if it leaves out the image.

        Raises:
            UserError: no image can be read; or what is told of one raises it.
        """
        first = None
        for offset in range(number := len(self.dataset)):
            # Its own number as it is: one beyond the end ends an iteration.
            place = (index + offset) % number if offset else index
            try:
                item = type(self.dataset).prepare_data(self.dataset, place)
            except UserError:
                raise
            except Exception as error:
                found = self.unreadable(place, error)
                if found is None:  # Then the mistake is in a transform.
                    raise
                first = first or found
                if offset == 0:
                    self.met(found)
                continue
            if item is None:
                path = self.dataset.get_data_info(place).get("img_path", place)
                _NOTES.redrawn.append(str(path))
            return item
        raise UserError(
            f"{type(self.dataset).__name__}: none of its {number} images can be read; "
            f"the first: {first}. Complete the data set."
        )

    def unreadable(self, index: int, error: Exception) -> UnreadableError | None:
        """The file of image or labels that cannot be read, if that is why one failed.

        Args:
            index: of the item.
            error: of loading it.
        """
        if isinstance(error, UnreadableError):
            return error
        info = self.dataset.get_data_info(index)
        backend = getattr(self.dataset, "backend_args", None)
        for path in (info.get("img_path"), info.get("seg_map_path")):
            if path is not None and (fault := fault_of(path, backend)):
                return UnreadableError(path, fault)
        if "failed to load image" in str(error):  # mmcv's, of what cv2 gave up
            return UnreadableError(info["img_path"], "no image that cv2 can read")
        return None


class NotedBatch(dict):
    """A batch, and what was met while it was loaded.

    Attributes:
        notes: of its items; of a batch of other kinds they are lost.
    """

    notes: Notes


class NotingCollate:
    """Joins the items of a batch and takes along what was met as they were loaded.

    So that it comes to the training with its batch, whatever process has loaded it and
    how far ahead.

    Args:
        collate: joins them.
    """

    def __init__(self, collate: Callable[[list], Any]):
        self.collate = collate
        self._take()  # what others have loaded is none of its batches'

    def __call__(self, items: list) -> Any:
        """The batch, as a `NotedBatch` if it is a mapping."""
        batch, notes = self.collate(items), self._take()
        if isinstance(batch, Mapping):
            batch = NotedBatch(batch)
            batch.notes = notes
        return batch

    @staticmethod
    def _take() -> Notes:
        notes = Notes(_NOTES.unreadable[:], _NOTES.redrawn[:])
        _NOTES.unreadable.clear()
        _NOTES.redrawn.clear()
        return notes
