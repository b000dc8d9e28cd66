"""A data set that a test survives though some of its images cannot be read."""

from io import BytesIO
from typing import Any

from mmengine.fileio import get
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS as ALL_DATASETS
from PIL import Image

from mmrev.registry import DATASETS


@DATASETS.register_module()
class ReadableDataset:
    """Gives the next image that can be read in the place of one that cannot.

    For tests alone, by metrics that count each image once: `mmrev.evaluation`'s. They
    find the image missing, and state it. Loaders of all processes keep their number of
    batches, so that no process waits for another.

    Args:
        dataset: config of a data set of mmdet or mmseg.

    Raises:
        ValueError: on the first access, if no image can be read.
    """

    def __init__(self, dataset: dict) -> None:
        self.dataset = ALL_DATASETS.build(dataset)

    @property
    def metainfo(self) -> dict[str, Any]:
        """Of the data set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Load the annotations."""
        self.dataset.full_init()

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the annotations say of an image, whether it can be read or not."""
        return self.dataset.get_data_info(index)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        first = None
        for offset in range(len(self)):
            place = (index + offset) % len(self)
            try:
                return self.dataset[place]
            except Exception as error:
                reason = self._unreadable(place)
                if reason is None:  # Then the mistake is in a transform.
                    raise
                first = first or (reason, error)
                if offset == 0:
                    # As an error, since only those are seen of every process.
                    logger = MMLogger.get_current_instance()
                    logger.error(f"left out, as it cannot be read: {reason}")
        reason, error = first
        raise ValueError(
            f"{type(self.dataset).__name__}: none of its {len(self)} images can be "
            f"read; the first: {reason}. Complete the data set."
        ) from error

    def _unreadable(self, index: int) -> str | None:
        """Path and fault of the file that cannot be read, of image and labels."""
        info = self.get_data_info(index)
        backend = getattr(self.dataset, "backend_args", None)
        for path in (info.get("img_path"), info.get("seg_map_path")):
            if path is None:
                continue
            try:
                with Image.open(BytesIO(get(path, backend_args=backend))) as image:
                    image.load()
            # Storage and decoders raise all kinds on what they cannot read.
            except Exception as error:
                return f"{path} ({type(error).__name__})"
        return None
