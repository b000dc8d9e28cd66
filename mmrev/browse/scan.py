"""What the files of data sets hold, image by image, read by several processes."""

import hashlib
import multiprocessing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.fileio import get
from PIL import Image

from mmrev.datasets.checked import reads_masks
from mmrev.datasets.class_counts import labels_of
from mmrev.datasets.images import (
    CheckImage,
    UnreadableError,
    fault_of,
    orientation_of,
    other_size,
    turns,
)
from mmrev.datasets.label_maps import CheckLabelMap
from mmrev.errors import UserError
from mmrev.evaluation.run_lengths import refuse_malformed

__all__ = ["ImageScan", "Part", "scan"]

_MIRRORS = (2, 3, 4)  # EXIF's orientations that leave width and height as they are
_CHUNK = 16  # images that a process gets at a time
_DATASETS: Sequence[BaseDataset] = ()  # of a process that scans


@dataclass(slots=True)
class ImageScan:
    """What was found of an image.

    Attributes:
        part: number of its data set.
        index: its number there.
        path: of its file.
        image_id: as annotations name it, if they do.
        sha256: of the file's content; empty if it cannot be read.
        fault: file, of image or labels, that cannot be read, and why.
        other_size: stated and loaded size, in words, if they differ.
        mirrored: EXIF's orientation, if it turns without changing the size, else 0.
        labels: of its objects, or of the whole; None if it has none.
        pixels: of its label map by label, (256,); None without one.
        wrong: what is wrong with label maps and masks.
    """

    part: int
    index: int
    path: str
    image_id: Hashable = None
    sha256: str = ""
    fault: tuple[str, str] | None = None
    other_size: str = ""
    mirrored: int = 0
    labels: list[int] | None = None
    pixels: np.ndarray | None = None
    wrong: list[str] = field(default_factory=list)


@dataclass
class Part:
    """A data set that wraps no other, and what was found of its images.

    Attributes:
        dataset: itself.
        splits: that have it.
        scans: of its images; empty where they lie in no files.
        pixels: of its label maps by label, (256,); None without such.
    """

    dataset: BaseDataset
    splits: list[str]
    scans: list[ImageScan] = field(default_factory=list)
    pixels: np.ndarray | None = None

    def add(self, found: ImageScan) -> None:
        """Add an image."""
        self.scans.append(found)
        if found.pixels is not None:
            self.pixels = found.pixels + (0 if self.pixels is None else self.pixels)
            found.pixels = None  # there may be many


def scan(datasets: Sequence[BaseDataset], workers: int) -> Iterator[ImageScan]:
    """Read all images and label maps.

    Args:
        datasets: whose images lie in files, see `mmrev.datasets.checked`.
        workers: processes; 0 reads in this one.

    Yields:
        Images in the order of the data sets.

    Raises:
        UserError: a process was ended, as by the system for want of memory.
    """
    for dataset in datasets:
        for step in dataset.pipeline.transforms:
            if isinstance(step, CheckImage):
                step.other_sizes = "said"  # here it is counted
    places = [
        (part, index)
        for part, dataset in enumerate(datasets)
        for index in range(len(dataset))
    ]
    if not workers:
        _begin(datasets)
        yield from map(_scan, places)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, context, _begin, (datasets,)) as pool:
        try:
            yield from pool.map(_scan, places, chunksize=_CHUNK)
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {workers} processes was ended, maybe for want of memory; "
                "lower --workers."
            ) from error


def _begin(datasets: Sequence[BaseDataset]) -> None:
    global _DATASETS
    _DATASETS = datasets
    cv2.setNumThreads(0)


def _scan(place: tuple[int, int]) -> ImageScan:
    part, index = place
    dataset = _DATASETS[part]
    info = dataset.get_data_info(index)
    found = ImageScan(part, index, str(info["img_path"]), info.get("img_id"))
    found.labels = labels_of(info)
    backend = getattr(dataset, "backend_args", None)
    try:
        content = get(found.path, backend_args=backend)
    # Storage raises all kinds.
    except Exception:
        found.fault = found.path, fault_of(found.path, backend) or "gone again"
        return found
    found.sha256 = hashlib.sha256(content).hexdigest()
    try:
        _load(dataset, dict(info), content, found)
        if reads_masks(dataset):
            _check_codes(info, found)
    except UserError as error:
        found.wrong.append(str(error))
    except Exception as error:
        reason = dataset.prepare_data.unreadable(index, error)
        path, fault = found.path, f"{type(error).__name__}: {error}"
        found.fault = (reason.path, reason.fault) if reason else (path, fault[:200])
    return found


def _load(
    dataset: BaseDataset, results: dict[str, Any], content: bytes, found: ImageScan
) -> None:
    """Load image and label map as the pipeline does, with the checks of a run."""
    steps = dataset.pipeline.transforms
    loads = [step for step in steps if isinstance(step, LoadImageFromFile)]
    if not loads and (fault := fault_of(found.path)):
        raise UnreadableError(found.path, fault)
    for number, step in enumerate(steps):
        follows = steps[number + 1] if number + 1 < len(steps) else None
        if isinstance(step, LoadImageFromFile | CheckImage | CheckLabelMap) or (
            isinstance(follows, CheckLabelMap)
        ):
            results = step(results)
        if step in loads:
            size = results["ori_shape"][1::-1]
            found.other_size = other_size(results, size, turns(step))
            orientation = orientation_of(BytesIO(content))
            if turns(step) and orientation in _MIRRORS:
                found.mirrored = orientation
    if "gt_seg_map" in results:
        labels = results["gt_seg_map"].ravel()
        found.pixels = np.bincount(labels, minlength=256)[:256]
    if "segments_info" in results and results.get("seg_map_path"):
        _check_segments(results, found)


def _check_segments(results: Mapping[str, Any], found: ImageScan) -> None:
    """Compare a panoptic map with the image, and with the segments that are listed."""
    path = results["seg_map_path"]
    try:
        with Image.open(BytesIO(get(path))) as image:
            colours = np.asarray(image.convert("RGB"), np.int64)
    except Exception as error:
        raise UnreadableError(path, fault_of(path) or str(error)) from error
    height, width = results.get("ori_shape", colours.shape)[:2]
    if colours.shape[:2] != (height, width):
        found.wrong.append(
            f"{path}: expected the size of its image, {width} x {height}, got "
            f"{colours.shape[1]} x {colours.shape[0]}; mend the map."
        )
    drawn = set(np.unique(colours @ [1, 256, 256**2]).tolist()) - {0}
    listed = {segment["id"] for segment in results["segments_info"]}
    for ids, what in (
        (drawn - listed, "draws segments that are not listed"),
        (listed - drawn, "lacks segments that are listed"),
    ):
        if ids:
            found.wrong.append(f"{path}: {what}: {sorted(ids)[:5]}; mend the map.")


def _check_codes(info: Mapping[str, Any], found: ImageScan) -> None:
    """Check run lengths of masks, before other code trusts them."""
    for number, one in enumerate(info.get("instances", ())):
        mask = one.get("mask")
        if not isinstance(mask, dict):
            continue
        height, width = mask["size"]
        pixels = int(height * width)
        if isinstance(mask["counts"], str):
            try:
                refuse_malformed([mask["counts"].encode()], np.array([pixels]))
            except ValueError as error:
                said = str(error).partition(": ")[2]
                found.wrong.append(f"{found.path}: mask of object {number}: {said}")
        elif min(mask["counts"], default=0) < 0 or sum(mask["counts"]) != pixels:
            found.wrong.append(
                f"{found.path}: mask of object {number}: expected runs of {pixels} "
                f"pixels in all, got {sum(mask['counts'])}"
            )
