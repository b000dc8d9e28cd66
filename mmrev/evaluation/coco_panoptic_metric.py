"""COCO's panoptic quality for mmdet's panoptic models.

mmdet's own `CocoPanopticMetric` needs panopticapi, which PyPI does not have. It also
takes label 0 without an instance for void; here that is a segment like others.
"""

from collections.abc import Hashable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.logging import MMLogger
from pycocotools import mask as rle
from terminaltables import AsciiTable

from mmrev.errors import shortened
from mmrev.evaluation.categories import category_ids, cell
from mmrev.evaluation.coco import engine_name
from mmrev.evaluation.coverage import CoveredMetric, first_of_each, refuse_shared_ids
from mmrev.evaluation.panoptic import Segment, panoptic_quality, read_truth
from mmrev.registry import METRICS

__all__ = ["CocoPanopticMetric"]

_QUALITIES = ("PQ", "SQ", "RQ")
# Ending of a figure's name, and of which classes it is the average.
_GROUPS = {"": "All", "_th": "Things", "_st": "Stuff"}


class _ImageResult(NamedTuple):
    """What is kept of an image: a label and a run-length code of each segment."""

    image: Hashable
    path: str | None
    labels: list[int]
    codes: list[bytes]


@METRICS.register_module()
class CocoPanopticMetric(CoveredMetric):
    """Panoptic, segmentation and recognition quality: PQ, SQ, RQ.

    The figures are mmdet's by name, in percent and not rounded: ``PQ``, ``SQ``, ``RQ``
    over all classes of the annotations, ``_th`` over things and ``_st`` over stuff. A
    class of which nothing is to find and nothing found does not count; NaN over none.

    An image without predictions counts as one where nothing was found, and is named in
    a warning and in `coverage`. Of an image that came twice, the first result counts.

    Args:
        ann_file: annotations in COCO's panoptic form.
        seg_prefix: folder of the PNG files that the annotations name, whose colours
            are segment ids.
        classwise: whether to add each class to the table, and a figure such as
            ``person_PQ`` (NaN where nothing is to find and nothing found).
        backend_args: None alone, which mmdet's configs state: files are read from disk.
        **kwargs: of mmengine's BaseMetric: collect_device, collect_dir, prefix.

    Raises:
        ValueError: an argument, the annotations or the predictions are not sound, or
            hotcoco is not installed.
    """

    default_prefix = "coco_panoptic"

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str,
        classwise: bool = False,
        backend_args: None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if not find_spec("hotcoco"):
            raise ValueError(
                "CocoPanopticMetric: needs hotcoco, which is not installed. Run: pip "
                "install hotcoco"
            )
        if backend_args is not None:
            raise ValueError(
                f"CocoPanopticMetric: backend_args must be None, got {backend_args}; "
                "copy the annotations and their maps to a disk."
            )
        self.seg_prefix = seg_prefix
        self.classwise = classwise
        self._truth = read_truth(ann_file, seg_prefix)
        self._sizes = {
            one["id"]: (one["height"], one["width"]) for one in self._truth["images"]
        }

    @property
    def protocol(self) -> str:
        """What the figures mean and what computed them."""
        return f"COCO panoptic ({engine_name('hotcoco')})"

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Check the predictions of a batch and keep them in few bytes.

        Args:
            data_batch: not used.
            data_samples: with `img_id` and `pred_panoptic_seg`, whose `sem_seg` are
                mmdet's ids, (1, H, W): label + 1000 * instance, where the label after
                that of the last class is void.

        Raises:
            ValueError: names the image and what is wrong with its predictions.
        """
        if not self.results:  # Now, so that a long test does not end with a mistake.
            self._category_ids()
        void = len(self.dataset_meta["classes"])
        for sample in data_samples:
            ids = self._ids(sample, void)
            found = [one for one in np.unique(ids) if one % INSTANCE_OFFSET != void]
            masks = (np.asfortranarray(ids == one, np.uint8) for one in found)
            self.results.append(
                _ImageResult(
                    sample["img_id"],
                    sample.get("img_path"),
                    [int(one % INSTANCE_OFFSET) for one in found],
                    [rle.encode(mask)["counts"] for mask in masks],
                )
            )

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Evaluate the results of all images.

        Args:
            results: of all processes.

        Returns:
            The figures by name, without the metric's prefix.

        Raises:
            ValueError: the data set has classes that the annotations lack, two images
                have one id, or a map is damaged.
        """
        refuse_shared_ids(result[:2] for result in results)
        # mmengine hands on plain tuples.
        results = [_ImageResult(*result) for result in first_of_each(results)]
        seen = {result.image for result in results}
        self._cover(len(seen), sorted(self._sizes.keys() - seen))
        ids = self._category_ids()
        segments = [
            Segment(result.image, ids[label], code)
            for result in results
            for label, code in zip(result.labels, result.codes, strict=True)
        ]
        found = panoptic_quality(self._truth, self.seg_prefix, segments)
        self._tell_classes(found)
        return self._figures(found)

    def _category_ids(self) -> list[Hashable]:
        classes = self.dataset_meta["classes"]
        return category_ids("CocoPanopticMetric", self._truth["categories"], classes)

    def _ids(self, sample: dict, void: int) -> np.ndarray:
        """The predicted ids of an image, (H, W), after a look at them."""
        image = sample["img_id"]
        if image not in self._sizes:
            raise ValueError(
                f"CocoPanopticMetric: expected predictions for the {len(self._sizes)} "
                f"images of ann_file, got some for image {image}; test on those."
            )
        predicted = [key for key in sample if key.startswith("pred_")]
        _refuse_unless(
            "pred_panoptic_seg" in predicted,
            image,
            "pred_panoptic_seg of a panoptic model",
            shortened(predicted) or "no predictions",
        )
        ids = sample["pred_panoptic_seg"]["sem_seg"].detach().cpu().numpy()
        shape = (1, *self._sizes[image])
        _refuse_unless(ids.shape == shape, image, f"ids of shape {shape}", ids.shape)
        _refuse_unless(
            ids.dtype.kind in "iu", image, "ids that are whole numbers", ids.dtype
        )
        wrong = ids[(ids < 0) | (ids % INSTANCE_OFFSET > void)]
        _refuse_unless(
            not wrong.size,
            image,
            f"ids of label + {INSTANCE_OFFSET} * instance with a label of 0..{void - 1}"
            f" or {void} for void",
            wrong[0] if wrong.size else None,
        )
        return ids[0]

    def _tell_classes(self, found: dict[str, dict]) -> None:
        """Say of what the figures are means."""
        segments = [
            segment
            for one in self._truth["annotations"]
            for segment in one["segments_info"]
        ]
        categories, total = self._truth["categories"], len(self._truth["categories"])
        true = {one["category_id"] for one in segments if not one.get("iscrowd")}
        absent = [one["name"] for one in categories if one["id"] not in true]
        pixels = sum(height * width for height, width in self._sizes.values())
        void = 1 - sum(one["area"] for one in segments) / pixels if pixels else 0
        self._remark(
            f"PQ, SQ and RQ are means over the {found['All']['n']} of {total} classes "
            "that are true or predicted anywhere",
            absent,
            f"{100 * void:.2f} % of the pixels are void",
        )

    def _figures(self, found: dict[str, dict]) -> dict[str, float]:
        rows = {name: _percents(found[name]) for name in _GROUPS.values()}
        figures = {
            f"{quality}{ending}": value
            for ending, name in _GROUPS.items()
            for quality, value in zip(_QUALITIES, rows[name], strict=True)
        }
        if self.classwise:
            for one in self._truth["categories"]:
                rows[one["name"]] = _percents(found["per_class"][one["id"]])
                figures[f"{one['name']}_PQ"] = rows[one["name"]][0]
        table = [(name, *map(cell, row)) for name, row in rows.items()]
        logger = MMLogger.get_current_instance()
        logger.info(f"panoptic:\n{AsciiTable([('', *_QUALITIES), *table]).table}")
        return figures


def _refuse_unless(sound: bool, image: Hashable, expected: str, got: object) -> None:
    if not sound:
        raise ValueError(
            f"CocoPanopticMetric: image {image}: expected {expected}, got {got}."
        )


def _percents(shares: dict[str, float]) -> list[float]:
    """PQ, SQ and RQ in percent; hotcoco gives -1 where nothing is to average."""
    values = (shares[quality.lower()] for quality in _QUALITIES)
    return [100 * value if value >= 0 else np.nan for value in values]
