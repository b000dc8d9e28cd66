"""COCO's panoptic quality (Kirillov et al., arXiv 1801.00868), computed by hotcoco.

Reference: cocodataset/panopticapi, commit 7bb4655. hotcoco gives its counts, and its
figures but for rounding, below 1e-12. Images and classes are numbered anew from 1
before, as hotcoco wants ids that are numbers.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mmrev.evaluation.categories import numbered
from mmrev.limits import ANNOTATIONS, refuse_larger
from mmrev.paths import leads_out

__all__ = ["Segment", "panoptic_quality", "read_truth"]

# What is used of each part of the annotations.
_FIELDS = {
    "images": {"id", "height", "width"},
    "categories": {"id", "name", "isthing"},
    "annotations": {"image_id", "file_name", "segments_info"},
}
_SEGMENT_FIELDS = {"id", "category_id", "area"}


class Segment(NamedTuple):
    """A predicted segment: ids of image and category, and its run-length code."""

    image: Hashable
    category: Hashable
    code: bytes


def read_truth(ann_file: str | Path, seg_prefix: str | Path) -> dict:
    """Read annotations in COCO's panoptic form and look at their maps.

    Args:
        ann_file: the annotations.
        seg_prefix: folder of the maps, whose colours are segment ids.

    Returns:
        What the file holds.

    Raises:
        ValueError: the file has another form, or names a map that is not there or of
            another size than its image.
        OSError: the file is not there.
    """
    try:
        refuse_larger("annotations", Path(ann_file).stat().st_size, ANNOTATIONS)
        truth = json.loads(Path(ann_file).read_bytes())
        _check_form(truth)
        _check_images(truth)
        _check_maps(truth, Path(seg_prefix))
    except ValueError as error:
        raise ValueError(f"CocoPanopticMetric: {ann_file}: {error}") from error
    # Of values of another kind than the fields have.
    except (TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"CocoPanopticMetric: {ann_file}: expected COCO's panoptic form, got "
            f"another ({error})."
        ) from error
    return truth


def panoptic_quality(
    truth: Mapping, seg_prefix: str | Path, segments: Iterable[Segment]
) -> dict[str, dict]:
    """Match predicted segments with true ones and average over the classes.

    Args:
        truth: of `read_truth`.
        seg_prefix: folder of the maps.
        segments: the predicted ones; those of an image do not overlap.

    Returns:
        ``All``, ``Things`` and ``Stuff``: shares ``pq``, ``sq`` and ``rq``, -1 over no
        class, and number ``n`` of the classes. ``per_class``: the same by id, with
        ``tp``, ``fp``, ``fn`` and the sum ``iou`` of the true positives.
    """
    from hotcoco.panoptic import PanopticEval  # which not everybody has

    images = numbered(truth["images"], "CocoPanopticMetric: image")
    categories = numbered(truth["categories"], "CocoPanopticMetric: category")
    sizes = {one["id"]: [one["height"], one["width"]] for one in truth["images"]}
    expected = {
        "images": [
            {"id": number, "height": sizes[one][0], "width": sizes[one][1]}
            for one, number in images.items()
        ],
        "categories": [
            {**one, "id": categories[one["id"]]} for one in truth["categories"]
        ],
        "annotations": [
            _annotation(one, images, categories) for one in truth["annotations"]
        ],
    }
    found = [
        {
            "id": number,
            "image_id": images[one.image],
            "category_id": categories[one.category],
            "segmentation": {"size": sizes[one.image], "counts": one.code.decode()},
        }
        for number, one in enumerate(segments, 1)
    ]
    run = PanopticEval(
        expected, {**expected, "annotations": found}, gt_folder=seg_prefix
    )
    run.evaluate()
    results = run.results()
    results["per_class"] = {
        one: results["per_class"][number] for one, number in categories.items()
    }
    return results


def _annotation(
    one: Mapping, images: Mapping[Hashable, int], categories: Mapping[Hashable, int]
) -> dict:
    return {
        "image_id": images[one["image_id"]],
        "file_name": one["file_name"],
        "segments_info": [
            {
                "id": segment["id"],
                "category_id": categories[segment["category_id"]],
                "area": segment["area"],
                "iscrowd": int(segment.get("iscrowd", 0)),
            }
            for segment in one["segments_info"]
        ],
    }


def _check_form(truth: dict) -> None:
    for part, fields in _FIELDS.items():
        for one in _entries(truth, part):
            if lacking := fields - one.keys():
                raise ValueError(
                    f"expected COCO's panoptic form, got {part} without "
                    f"{sorted(lacking)[0]!r}."
                )
    known = {one["id"] for one in truth["categories"]}
    for one in truth["annotations"]:
        for segment in one["segments_info"]:
            if lacking := _SEGMENT_FIELDS - segment.keys():
                raise ValueError(
                    f"image {one['image_id']}: a segment has no "
                    f"{sorted(lacking)[0]!r}; complete the annotations."
                )
            if segment["category_id"] not in known:
                raise ValueError(
                    f"image {one['image_id']}, segment {segment['id']}: expected one "
                    f"of the categories, got {segment['category_id']}."
                )


def _entries(truth: dict, part: str) -> list[dict]:
    if not isinstance(truth, dict) or not isinstance(truth.get(part), list):
        raise ValueError(f"expected COCO's panoptic form, got no list of {part}.")
    return truth[part]


def _check_images(truth: dict) -> None:
    annotations = Counter(one["image_id"] for one in truth["annotations"])
    images = Counter(one["id"] for one in truth["images"])
    for one in {**images, **annotations}:
        if images[one] != 1 or annotations[one] != 1:
            raise ValueError(
                f"image {one}: expected 1 entry of it among the images and 1 among the "
                f"annotations, got {images[one]} and {annotations[one]}."
            )


def _check_maps(truth: dict, folder: Path) -> None:
    sizes = {one["id"]: (one["height"], one["width"]) for one in truth["images"]}
    for one in truth["annotations"]:
        if leads_out(one["file_name"]):
            raise ValueError(
                f"image {one['image_id']}: expected a map below {folder}, got "
                f"{one['file_name']!r:.200}; mend the file."
            )
        path, expected = folder / one["file_name"], sizes[one["image_id"]]
        try:
            with Image.open(path) as image:
                found = image.size[::-1]
        except OSError as error:
            raise ValueError(
                f"image {one['image_id']}: expected its map at {path}, which cannot be "
                f"read ({type(error).__name__}); set seg_prefix to the folder of maps."
            ) from error
        if found != expected:
            raise ValueError(
                f"image {one['image_id']}: expected a map of its height and width "
                f"{expected}, got {found}: {path}."
            )
