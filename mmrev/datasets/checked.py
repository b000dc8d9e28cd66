"""Lets the data sets of mmdet and mmseg check what they read, whoever builds them."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib.util import find_spec
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.fileio import get_local_path
from PIL import Image

from mmrev.datasets.annotations import (
    Contents,
    check_instances,
    check_panoptic,
    collect_faults,
    listed,
)
from mmrev.datasets.label_maps import CheckLabelMap
from mmrev.datasets.readable import ReadableItems
from mmrev.errors import UserError
from mmrev.limits import ANNOTATIONS, refuse_larger
from mmrev.paths import is_below

__all__ = [
    "collecting_faults",
    "contents_of",
    "place_of",
    "reads_masks",
    "use_checked_data",
]

# Where the faults of annotations go, instead of ending at the first.
_COLLECTED: list[UserError] | None = None


@contextmanager
def collecting_faults() -> Iterator[list[UserError]]:
    """Build data sets of what is sound of their annotations, and collect the faults.

    Yields:
        The faults so far.
    """
    global _COLLECTED
    _COLLECTED = []
    try:
        yield _COLLECTED
    finally:
        _COLLECTED = None


# A way up or an address in a path, which is then looked at again.
_ODD = re.compile(r"/\.\./|://")


def use_checked_data() -> None:
    """Make annotations, images and label maps be checked where they are read.

    So no file is read a second time. A COCO file is checked before mmdet looks at it,
    an image and a label map as soon as they are loaded, in a loader's worker, too.
    Files that are no JSON, and folders without images, are told whatever the data set.

    Afterwards building a data set or taking an item of it raises UserError.
    """
    if find_spec("mmdet"):
        from mmdet.datasets import BaseDetDataset

        _wrap_full_init(BaseDetDataset, _load_annotations)
    if find_spec("mmseg"):
        from mmseg.datasets import BaseSegDataset

        _wrap_full_init(BaseSegDataset, _check_label_maps)
    _wrap_full_init(BaseDataset, lambda dataset, full_init: full_init(dataset))


def contents_of(dataset: BaseDataset) -> Contents | None:
    """What a data set took from its annotations; None if they were not checked."""
    return getattr(dataset, "checked_contents", None)


def place_of(dataset: BaseDataset) -> str:
    """Where a data set's annotations lie, for messages."""
    folders = dataset.data_prefix
    return dataset.ann_file or str(
        folders.get("seg_map_path") or folders.get("img_path", "")
    )


def reads_masks(dataset: BaseDataset) -> bool:
    """Whether a data set's pipeline loads the masks of objects."""
    return any(getattr(one, "with_mask", False) for one in dataset.pipeline.transforms)


def _wrap_full_init(cls: type[BaseDataset], initialize: Callable) -> None:
    original = cls.full_init
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def full_init(self: BaseDataset) -> None:
        if self._fully_initialized:
            return
        if os.path.isfile(path := self.ann_file or ""):
            refuse_larger(f"annotations {path}", os.path.getsize(path), ANNOTATIONS)
        # On the data set alone, for this once, as below.
        self.load_data_list = partial(_entries_inside, self, self.load_data_list)
        try:
            initialize(self, original)
        except RecursionError as error:
            raise UserError(
                f"{self.ann_file}: it is nested too deeply; fetch it again."
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(
                f"not valid JSON ({error}): {self.ann_file}; fetch it again."
            ) from error
        except ValueError as error:
            # numpy's, of the entries that mmengine packs together.
            if "need at least one array" not in str(error):
                raise
            places = ", ".join(map(str, self.data_prefix.values()))
            raise UserError(
                f"{type(self).__name__} found no image in {places}; "
                "check the folder, the file suffixes and the class names."
            ) from error
        finally:
            self.__dict__.pop("load_data_list", None)
        self.prepare_data = ReadableItems(self)

    cls.full_init = full_init


def _entries_inside(
    dataset: BaseDataset, load_data_list: Callable[[], list[dict]]
) -> list[dict]:
    """The entries of a data set, if the files that they name lie in its folders.

    Links are the user's own. Where a data set has no folder, names are whole paths.
    """
    entries = load_data_list()
    folders = [dataset.data_root or "", *(dataset.data_prefix or {}).values()]
    if not folders[0] and "" in folders[1:]:
        return entries
    folders = [os.path.normpath(one) for one in folders if isinstance(one, str) and one]
    addresses = max((one.count(":/") for one in folders), default=0)
    starts = tuple(f"{one.rstrip('/')}/" for one in folders)
    for entry in entries if folders else ():
        for path in (entry.get("img_path"), entry.get("seg_map_path")):
            if not isinstance(path, str):
                continue
            if path.startswith(starts) and not _ODD.search(path):
                continue  # at once, since there may be millions
            place = os.path.abspath(path)
            inside = any(is_below(place, os.path.abspath(one)) for one in folders)
            if not inside or path.count("://") > addresses:
                raise UserError(
                    f"{place_of(dataset)}: expected names of files below "
                    f"{listed(dict.fromkeys(folders))}, got {path!r:.200}; mend the "
                    "file, or link the folder of the files into the data root."
                )
    return entries


def _load_annotations(dataset: BaseDataset, full_init: Callable) -> None:
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadPanopticAnnotations

    if not isinstance(dataset, CocoDataset):
        full_init(dataset)
        return
    transforms = []
    for transform in dataset.pipeline.transforms:
        if isinstance(transform, LoadPanopticAnnotations):
            transforms.append(partial(_check_map_size, transform.backend_args))
        elif getattr(transform, "with_mask", False):
            transforms.append(_check_mask_sizes)
        transforms.append(transform)
    dataset.pipeline.transforms = transforms
    # mmdet builds this class of what it reads. On the data set alone, for this once:
    # data sets are copied and pickled.
    dataset.COCOAPI = _checked(dataset)
    try:
        full_init(dataset)
    finally:
        del dataset.COCOAPI


def _check_mask_sizes(results: dict[str, Any]) -> dict[str, Any]:
    """A transform that refuses run lengths of another size than the loaded image's."""
    height, width = results["ori_shape"][:2]
    stated = results["height"], results["width"]
    masks = (one.get("mask") for one in results["instances"])
    if stated != (height, width) and any(isinstance(one, dict) for one in masks):
        raise UserError(
            f"{results['img_path']}: expected the size that its annotations state, "
            f"{stated[1]} x {stated[0]}, got {width} x {height}; mend the image or its "
            "annotations."
        )
    return results


def _check_map_size(
    backend_args: dict | None, results: dict[str, Any]
) -> dict[str, Any]:
    """A transform that refuses panoptic maps of another size than the loaded image."""
    path = results.get("seg_map_path")
    if path is None:
        return results
    height, width = results["ori_shape"][:2]
    # Of a local file only the header is read.
    with get_local_path(path, backend_args) as local, Image.open(local) as image:
        size = image.size
    if size != (width, height):
        raise UserError(
            f"{path}: expected the size of its image {results['img_path']}, {width} x "
            f"{height}, got {size[0]} x {size[1]}; mend the map."
        )
    return results


def _checked(dataset: BaseDataset) -> type:
    """The class of what a COCO data set reads, with a look at it in between."""
    from mmdet.datasets import CocoPanopticDataset

    path, classes = dataset.ann_file, dataset.metainfo["classes"]

    class Checked(type(dataset).COCOAPI):
        def __init__(self, annotation_file: str) -> None:
            try:
                super().__init__(annotation_file)
            except AssertionError as error:  # pycocotools' only one
                raise UserError(
                    f"{path}: expected a dict with 'images', 'annotations' and "
                    "'categories', got another value; mend the file."
                ) from error

        def createIndex(self) -> None:  # noqa: N802
            check = partial(check_panoptic, path=path, classes=classes)
            if not isinstance(dataset, CocoPanopticDataset):
                masks = "read" if reads_masks(dataset) else "not read"
                check = partial(
                    check_instances, path=path, classes=classes, masks=masks
                )
            if _COLLECTED is None:
                contents = check(self.dataset)
            else:
                faults, self.dataset, contents = collect_faults(self.dataset, check)
                fatal = faults.pop() if contents is None else None
                _COLLECTED.extend(faults)
                if fatal:
                    raise fatal
            dataset.checked_contents = contents
            super().createIndex()

    return Checked


def _check_label_maps(dataset: BaseDataset, full_init: Callable) -> None:
    from mmseg.datasets.transforms import LoadAnnotations

    classes = dataset.metainfo.get("classes")
    ignored = {dataset.ignore_index}
    if dataset.label_map is not None or dataset.reduce_zero_label:
        ignored.add(255)  # which mmseg writes then, whatever is ignored
    check = CheckLabelMap(
        None if classes is None else len(classes), ignored, dataset.backend_args
    )
    transforms = []
    for transform in dataset.pipeline.transforms:
        transforms.append(transform)
        if isinstance(transform, LoadAnnotations):
            transforms.append(check)
    dataset.pipeline.transforms = transforms
    full_init(dataset)
