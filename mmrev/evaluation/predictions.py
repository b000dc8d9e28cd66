"""Predictions as a file: arrays in a zip archive, which nothing has to execute.

NumPy's ``.npz``, read without pickle. Detections are columns over all images, masks
run-length codes; label maps and maps of panoptic ids are an array each, so that one is
in memory at a time.
"""

import math
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from numpy.lib.npyio import NpzFile

from mmrev.atomic import replacing
from mmrev.evaluation.coverage import first_of_each, image_key
from mmrev.evaluation.kept import Kept, KeptArrays
from mmrev.evaluation.run_lengths import refuse_malformed
from mmrev.limits import PIXELS, PREDICTIONS, refuse_larger
from mmrev.paths import below, is_below
from mmrev.registry import METRICS

__all__ = ["FORMAT", "DumpPredictions", "read_predictions"]

FORMAT = "mmrev-predictions-1"


@METRICS.register_module()
class DumpPredictions(BaseMetric):
    """Writes the predictions of a test to a file, for ``tools/leaderboard.py verify``.

    Args:
        out_file_path: ``.npz`` file.
        data_root: Left out of the names of images. Where data sets with several are
            tested together, all of them: a name then begins with the number of its own.
        **kwargs: of mmengine's BaseMetric.
    """

    counts_each_image_once = True

    def __init__(
        self, out_file_path: str, data_root: str | Sequence[str] = "", **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.out_file_path = out_file_path
        self.data_roots = [data_root] if isinstance(data_root, str) else data_root
        self._kept = KeptArrays()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what is predicted of each image, in few bytes.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_instances`` (boxes as corners in pixels),
                ``pred_panoptic_seg`` (ids (1, H, W)), both, ``pred_sem_seg`` (labels
                (1, H, W)) or ``pred_score`` (classes).

        Raises:
            ValueError: There is none of these.
        """
        for sample in data_samples:
            name = image_name(image_key(sample), self.data_roots)
            found = {
                key: self._kept.keep(one) if isinstance(one, np.ndarray) else one
                for key, one in _found(sample).items()
            }
            self.results.append((name, found))

    def evaluate(self, size: int) -> dict:
        """Write the predictions of all processes; `size` does not cut any off."""
        for _, found in self.results:
            for key, one in found.items():
                found[key] = one.array() if isinstance(one, Kept) else one
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list) -> dict:
        """Write; returns no metric."""
        results = dict(first_of_each(results))
        with replacing(self.out_file_path) as path:
            _write(path, _columns(results))
        logger = MMLogger.get_current_instance()
        logger.info(f"Predictions: {self.out_file_path}")
        return {}


def image_name(key: str, data_roots: Sequence[str]) -> str:
    """The name of an image in the file.

    Args:
        key: Of `image_key`.
        data_roots: Those of the data.

    Returns:
        The path below the innermost data root that it lies in. Of several data roots
        the number of that one stands before, since each may have a path.
    """
    inside = [root for root in data_roots if is_below(key, root)]
    if not inside:
        return key.lstrip("/")
    root = max(inside, key=len)
    name = below(key, root).lstrip("/")
    return f"{data_roots.index(root)}/{name}" if len(data_roots) > 1 else name


def _found(sample: dict) -> dict[str, Any]:
    if "pred_sem_seg" in sample:
        return _packed("label map", sample["pred_sem_seg"]["data"])
    if "pred_panoptic_seg" in sample:
        panoptic = _packed("panoptic map", sample["pred_panoptic_seg"]["sem_seg"])
        panoptic["id"] = sample["img_id"]
        return panoptic | (_found_boxes(sample) if "pred_instances" in sample else {})
    if "pred_instances" in sample:
        return _found_boxes(sample)
    if "pred_score" in sample:
        return {"scores": _numpy(sample["pred_score"], torch.float32)}
    raise ValueError(
        "--out: expected predictions of boxes, label or panoptic maps or classes, got "
        f"{sorted(key for key in sample if key.startswith('pred_')) or 'none'}; test "
        "without --out."
    )


def _found_boxes(sample: dict) -> dict[str, Any]:
    # Only detectors need mmdet.
    from mmdet.structures.bbox import get_box_tensor
    from mmdet.structures.mask import encode_mask_results

    instances = sample["pred_instances"]
    boxes = get_box_tensor(instances["bboxes"])
    found = {
        "id": sample["img_id"],
        "size": tuple(sample["ori_shape"][:2]),
        "boxes": _numpy(boxes, torch.float32).reshape(-1, 4),
        "scores": _numpy(instances["scores"], torch.float32),
        "labels": _numpy(instances["labels"], torch.int32),
    }
    if "mask_scores" in instances:
        found["mask_scores"] = _numpy(instances["mask_scores"], torch.float32)
    if "masks" in instances:
        codes = instances["masks"]
        if isinstance(codes, torch.Tensor):
            codes = encode_mask_results(codes.detach().cpu().numpy())
        found["masks"] = [code["counts"] for code in codes]
    return found


def _packed(kind: str, values: torch.Tensor) -> dict[str, Any]:
    """A map, (1, H, W), in few bytes."""
    values = values.squeeze(0).cpu().numpy()
    values = values.astype(np.min_scalar_type(values.max()))
    content = zlib.compress(values.tobytes(), 1)
    packed = np.frombuffer(content, np.uint8)
    return {kind: packed, "shape": values.shape, "dtype": values.dtype.str}


def _unpacked(kind: str, found: dict[str, Any]) -> np.ndarray:
    content = zlib.decompress(found[kind])
    return np.frombuffer(content, found["dtype"]).reshape(found["shape"])


def _numpy(values: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    return values.detach().to("cpu", dtype).numpy()


def _columns(results: dict[str, dict]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of the file, by name."""
    kept = list(results.values())
    yield "format", np.array(FORMAT)
    yield "images", np.array(list(results), dtype=np.str_)
    if not kept:
        return
    if "id" in kept[0]:
        yield "ids", np.array([one["id"] for one in kept])
    if "boxes" in kept[0]:
        yield "sizes", np.array([one["size"] for one in kept], np.int32)
        yield "counts", np.array([len(one["labels"]) for one in kept], np.int64)
        for name in ("boxes", "scores", "labels", "mask_scores"):
            if name in kept[0]:
                yield name, np.concatenate([one[name] for one in kept])
        if "masks" in kept[0]:
            codes = [code for one in kept for code in one["masks"]]
            yield "mask_lengths", np.array([len(code) for code in codes], np.int64)
            yield "masks", np.frombuffer(b"".join(codes), np.uint8)
    elif "scores" in kept[0]:
        yield "scores", np.stack([one["scores"] for one in kept])
    for kind, name in (("label map", "labels"), ("panoptic map", "panoptic")):
        if kind in kept[0]:
            for number, one in enumerate(kept):
                yield f"{name}{number}", _unpacked(kind, one)


def _write(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    # numpy.savez wants all arrays at once.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def read_predictions(path: str | Path) -> Iterator[tuple[str, dict]]:
    """Read what `DumpPredictions` wrote, image by image.

    Args:
        path: The file; it may come from anybody.

    Yields:
        The image's name, and its predictions as metrics take them.

    Raises:
        ValueError: The file is damaged, or not of this form.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, NpzFile):
                raise ValueError("expected an .npz archive")
            yield from _samples(file)
    # On what is damaged zipfile and numpy raise all kinds.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"predictions {path}: {reason}") from error


def _refuse_empty_claims(name: str, member: IO[bytes], size: int) -> None:
    """Refuse an array that says to have more values than its file has bytes."""
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"{name}: expected an array of version 1 or 2, got {version}")
    shape, _, dtype = read[version](member)
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"{name}: it says to be of shape {shape} in {size} bytes")


def _samples(file: NpzFile) -> Iterator[tuple[str, dict]]:
    found = str(_read(file, "format", "U", ()))
    if found != FORMAT:
        raise ValueError(f"expected the format {FORMAT}, got {found[:40]!r}")
    images = _read(file, "images", "U", (None,)).tolist()
    if len(set(images)) < len(images):
        raise ValueError("an image occurs twice")
    if "panoptic0" in file:
        samples = _panoptic_maps(file, len(images))
    elif "boxes" in file:
        samples = _detections(file, len(images))
    elif "scores" in file:
        scores = torch.from_numpy(_read(file, "scores", "f", (len(images), None)))
        samples = ({"pred_score": row} for row in scores)
    else:
        samples = _label_maps(file, len(images))
    for image, sample in zip(images, samples, strict=True):
        tensors = sample.get("pred_instances", sample)
        for name in ("scores", "mask_scores", "pred_score", "bboxes"):
            if name in tensors and not tensors[name].isfinite().all():
                raise ValueError(f"image {image}: {name} that are not finite")
        yield image, sample


def _detections(file: NpzFile, number: int) -> Iterator[dict]:
    ids = _read(file, "ids", "iuU", (number,)).tolist()
    sizes = _read(file, "sizes", "i", (number, 2)).astype(np.int64)
    if (sizes < 1).any():
        raise ValueError(f"sizes: expected at least 1 pixel a side, got {sizes.min()}")
    refuse_larger("sizes", int(sizes.prod(axis=1).max(initial=0)), PIXELS, "pixels")
    sizes = sizes.tolist()
    counts = _read(file, "counts", "i", (number,))
    total = int(counts.sum())
    columns = {
        "bboxes": _read(file, "boxes", "f", (total, 4)),
        "scores": _read(file, "scores", "f", (total,)),
        "labels": _read(file, "labels", "i", (total,)).astype(np.int64),
    }
    if "mask_scores" in file:
        columns["mask_scores"] = _read(file, "mask_scores", "f", (total,))
    codes = None
    if "masks" in file:
        lengths = _read(file, "mask_lengths", "i", (total,))
        data = _read(file, "masks", "u", (int(lengths.sum()),)).tobytes()
        ends = np.cumsum(lengths).tolist()
        codes = [
            data[end - n : end] for end, n in zip(ends, lengths.tolist(), strict=True)
        ]
    if (counts < 0).any() or (codes is not None and (lengths < 0).any()):
        raise ValueError("a negative count")
    if codes is not None:
        height, width = np.array(sizes, np.int64).reshape(-1, 2).T
        refuse_malformed(codes, np.repeat(height * width, counts))
    start = 0
    for one, size, count in zip(ids, sizes, counts.tolist(), strict=True):
        part = slice(start, start + count)
        start += count
        found = {name: torch.from_numpy(rows[part]) for name, rows in columns.items()}
        if codes is not None:
            found["masks"] = [{"size": size, "counts": code} for code in codes[part]]
        yield {"img_id": one, "ori_shape": tuple(size), "pred_instances": found}


def _label_maps(file: NpzFile, number: int) -> Iterator[dict]:
    for index in range(number):
        labels = _read(file, f"labels{index}", "u", (None, None)).astype(np.int64)
        yield {"pred_sem_seg": {"data": torch.from_numpy(labels)[None]}}


def _panoptic_maps(file: NpzFile, number: int) -> Iterator[dict]:
    ids = _read(file, "ids", "iuU", (number,)).tolist()
    boxes = _detections(file, number) if "boxes" in file else repeat({}, number)
    for index, (one, found) in enumerate(zip(ids, boxes, strict=True)):
        labels = _read(file, f"panoptic{index}", "u", (None, None)).astype(np.int64)
        yield {
            **found,
            "img_id": one,
            "ori_shape": labels.shape,
            "pred_panoptic_seg": {"sem_seg": torch.from_numpy(labels)[None]},
        }


def _read(
    file: NpzFile, name: str, kinds: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    if name not in file:
        raise ValueError(f"it has no array {name}")
    # No more is unpacked than the archive says; numpy makes room for what the array
    # says of itself.
    size = file.zip.getinfo(f"{name}.npy").file_size
    refuse_larger(name, size, PREDICTIONS)
    with file.zip.open(f"{name}.npy") as member:
        _refuse_empty_claims(name, member, size)
    array = file[name]
    sizes = zip(array.shape, shape, strict=False)
    if array.ndim != len(shape) or any(want not in (None, got) for got, want in sizes):
        raise ValueError(f"{name}: expected the shape {shape}, got {array.shape}")
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name}: expected numbers of kind {kinds}, got {array.dtype}")
    return array
