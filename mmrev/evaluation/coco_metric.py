"""COCO's own protocol for every column, fast.

Protocol: pycocotools 2.0.11. mmdet's `CocoMetric` takes mAP at the first of
``proposal_nums`` and every other column at the last, 1000 by default; a detector that
emits more than 100 boxes an image then has AP50 and the rest above COCO's.
"""

import tempfile
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import CocoMetric as MMDetCocoMetric
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import encode_mask_results
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from mmrev.evaluation.categories import category_ids, cell
from mmrev.evaluation.coco import (
    BOUNDARY_DILATION,
    BOUNDARY_ENGINE,
    ENGINES,
    STANDARD_DETECTIONS,
    STANDARD_IOU,
    Curves,
    Detections,
    available_engine,
    column_names,
    engine_for,
    engine_name,
    evaluate,
)
from mmrev.evaluation.coverage import CoveredMetric, first_of_each, refuse_shared_ids
from mmrev.registry import METRICS


class _ImageResult(NamedTuple):
    """What is kept of an image: 24 bytes a detection, and the codes of its masks."""

    image: Hashable
    path: str | None
    size: tuple[int, int]  # height, width
    boxes: np.ndarray  # left, top, right, bottom, (N, 4) float32
    scores: np.ndarray  # (N,) float32
    labels: np.ndarray  # (N,) int32
    masks: list[bytes] | None  # run-length codes
    mask_scores: np.ndarray | None  # (N,) float32
    truth: Sequence[dict] | None  # annotations, where there is no annotation file


@METRICS.register_module()
class CocoMetric(CoveredMetric, MMDetCocoMetric):
    """AP and AR of boxes, masks, their boundaries and proposals as COCO defines them.

    The figures are mmdet's by name and not rounded: ``bbox_mAP``, ``bbox_mAP_50``,
    ``_75``, ``_s``, ``_m``, ``_l`` at 100 detections an image, ``bbox_AR@1``,
    ``bbox_AR@10``, ``bbox_AR@100``, ``bbox_AR_s@100``, ``_m``, ``_l``; ``segm_`` alike,
    and ``boundary_`` by Boundary IoU; of proposals the recalls alone, without a prefix.
    -1 where there is nothing to find.

    An image without predictions counts as one where nothing was found, and is named in
    a warning and in `coverage`. Of an image that came twice, the first result counts.

    Args:
        ann_file: annotations in COCO's format; those of the data set if None.
        metric: 'bbox', 'segm', 'boundary', 'proposal' or a list of them.
        classwise: whether to add a table, and figures such as
            ``bbox_person_precision``, for each class (NaN where nothing is to find).
        proposal_nums: detections an image. Each beyond COCO's 1, 10 and 100 adds
            columns that end in it: ``bbox_mAP_50@1000``, ``bbox_AR@300``.
        iou_thrs: thresholds, if not COCO's.
        metric_items: names of the columns to report; all if None.
        engine: 'hotcoco', or 'pycocotools' for the original: the same figures,
            slower. The second is also used, with a warning, where hotcoco is missing.
            'boundary' is always faster-coco-eval's, see `boundary_iou`.
        **kwargs: as of mmdet's metric: format_only, outfile_prefix, backend_args,
            collect_device, prefix, sort_categories.

    Raises:
        ValueError: an argument, the annotations or the predictions are not sound.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | list[str] = "bbox",
        classwise: bool = False,
        proposal_nums: Sequence[int] = STANDARD_DETECTIONS,
        iou_thrs: float | Sequence[float] | None = None,
        metric_items: Sequence[str] | None = None,
        engine: str = ENGINES[0],
        **kwargs,
    ) -> None:
        names = [metric] if isinstance(metric, str) else list(metric)
        if unknown := set(names) - {"bbox", "segm", "boundary", "proposal"}:
            raise ValueError(
                "CocoMetric: metric must be of 'bbox', 'segm', 'boundary', 'proposal', "
                f"got {sorted(unknown)[0]!r}."
            )
        if kwargs.get("format_only") and not kwargs.get("outfile_prefix"):
            raise ValueError(
                "CocoMetric: format_only writes files and needs outfile_prefix, the "
                "path they begin with."
            )
        if not all(isinstance(most, int) and most > 0 for most in proposal_nums):
            raise ValueError(
                f"CocoMetric: proposal_nums must be positive integers, got "
                f"{tuple(proposal_nums)}."
            )
        valid = column_names(proposal_nums)
        if unknown := set(metric_items or ()) - set(valid):
            raise ValueError(
                f"CocoMetric: metric_items must be of {', '.join(valid)}, got "
                f"{sorted(unknown)[0]!r}."
            )
        super().__init__(
            ann_file,
            "segm",  # mmdet knows of no boundaries
            classwise=classwise,
            proposal_nums=proposal_nums,
            iou_thrs=STANDARD_IOU if iou_thrs is None else np.atleast_1d(iou_thrs),
            metric_items=metric_items,
            **kwargs,
        )
        self.metrics = names
        self.engine = available_engine(engine)
        if self.engine != engine:
            MMLogger.get_current_instance().warning(
                f"CocoMetric: {engine} is not installed; {self.engine} computes the "
                f"same figures, slower. Run: pip install {engine}"
            )
        self.engines = {name: engine_for(name, self.engine) for name in names}

    @property
    def protocol(self) -> str:
        """What the figures mean and what computed them."""
        parts = []
        if set(self.metrics) != {"boundary"}:
            parts.append(f"COCO ({engine_name(self.engine)}, 100 detections)")
        if "boundary" in self.metrics:
            parts.append(
                f"COCO by Boundary IoU ({engine_name(BOUNDARY_ENGINE)}, boundaries of "
                f"{BOUNDARY_DILATION:g} of the diagonal, 100 detections)"
            )
        text = "; ".join(parts)
        if extra := sorted(set(self.proposal_nums) - set(STANDARD_DETECTIONS)):
            columns = ", ".join(f"@{most}" for most in extra)
            text += f"; columns {columns} are not COCO's"
        if not np.array_equal(self.iou_thrs, STANDARD_IOU):
            thresholds = ", ".join(f"{iou:g}" for iou in self.iou_thrs)
            text = f"not standard COCO: IoU thresholds {thresholds}; {text}"
        return text

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Check the predictions of a batch and keep them in few bytes.

        Args:
            data_batch: not used.
            data_samples: with `img_id`, `ori_shape` and `pred_instances`: bboxes
                (N, 4) left, top, right, bottom in pixels; scores (N,); labels
                (N,); masks (N, H, W) or run-length codes; mask_scores (N,).

        Raises:
            ValueError: names the image and what is wrong with its predictions.
        """
        if self._coco_api is not None and self.cat_ids is None:
            # Now, so that a long test does not end with this mistake.
            self.cat_ids = self._category_ids(self._coco_api)
        for sample in data_samples:
            instances = sample["pred_instances"]
            masks, mask_scores = instances.get("masks"), instances.get("mask_scores")
            if isinstance(masks, torch.Tensor):
                masks = encode_mask_results(masks.detach().cpu().numpy())
            result = _ImageResult(
                sample["img_id"],
                sample.get("img_path"),
                tuple(sample["ori_shape"][:2]),
                _array(get_box_tensor(instances["bboxes"])).reshape(-1, 4),
                _array(instances["scores"]),
                _array(instances["labels"], torch.int32),
                None if masks is None else [_code(mask) for mask in masks],
                None if mask_scores is None else _array(mask_scores),
                self._truth_of(sample),
            )
            self._check(result, masks)
            kept = (
                self._kept.keep(one) if isinstance(one, np.ndarray) else one
                for one in result
            )
            self.results.append(tuple(kept))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Evaluate the results of all images.

        Args:
            results: of all processes.

        Returns:
            The figures by name, without the metric's prefix.

        Raises:
            ValueError: predictions for images or classes that the annotations lack, or
                for two images of one id.
        """
        refuse_shared_ids(result[:2] for result in results)
        # Results are plain tuples.
        results = [_ImageResult(*result) for result in first_of_each(results)]
        logger = MMLogger.get_current_instance()
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or str(Path(folder, "results"))
            coco = self._coco_api or self._from_dataset(results, prefix)
            self.cat_ids = self._category_ids(coco)
            # Without a file the data set's size tells what is missing, but not its ids.
            seen = {result.image for result in results}
            missing = sorted(coco.imgs.keys() - seen) if self._coco_api else None
            self._cover(len(seen), missing)
            if self.outfile_prefix:
                self._write(results, prefix)
        if self.format_only:
            logger.info(f"results are saved in {Path(prefix).parent}")
            return {}
        # The data set may list its classes in another order than the file.
        names = {one["id"]: one["name"] for one in coco.dataset["categories"]}
        self._tell_classes(coco.dataset.get("annotations", []), names)
        figures = {}
        for metric in self.metrics:
            curves = evaluate(
                coco.dataset,
                self._detections(results, metric),
                "bbox" if metric == "proposal" else metric,
                self.cat_ids,
                self.engines[metric],
                self.proposal_nums,
                self.iou_thrs,
                "ignored" if metric == "proposal" else "told apart",
            )
            figures |= self._figures(metric, curves, names, logger)
        return figures

    def _truth_of(self, sample: dict) -> Sequence[dict] | None:
        image = sample["img_id"]
        if self._coco_api is None:
            if "instances" not in sample:
                raise ValueError(
                    f"CocoMetric: image {image} has no annotations; set ann_file, or "
                    "load annotations in the test pipeline."
                )
            return sample["instances"]
        if image not in self._coco_api.imgs:
            raise ValueError(
                f"CocoMetric: expected predictions for the {len(self._coco_api.imgs)} "
                f"images of ann_file, got some for image {image}; test on those."
            )
        return None

    def _check(self, result: _ImageResult, masks: Sequence[dict] | None) -> None:
        """Refuse what no detector means, before it spoils an average."""

        def refuse(wrong: np.ndarray, values: Sequence, expected: str) -> None:
            if wrong.any():
                first = int(np.flatnonzero(wrong)[0])
                raise ValueError(
                    f"CocoMetric: image {result.image}, detection {first}: expected "
                    f"{expected}, got {np.asarray(values[first]).tolist()}."
                )

        columns = ("boxes", "scores", "labels", "masks", "mask_scores")
        counts = {name: getattr(result, name) for name in columns}
        counts = {name: len(one) for name, one in counts.items() if one is not None}
        if len(set(counts.values())) > 1:
            each = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise ValueError(
                f"CocoMetric: image {result.image}: expected as many of each, got "
                f"{each}."
            )
        for scores in (result.scores, result.mask_scores):
            if scores is not None:
                refuse(~np.isfinite(scores), scores, "a finite score")
        labels, most = result.labels, len(self.dataset_meta["classes"]) - 1
        refuse((labels < 0) | (labels > most), labels, f"a label of 0..{most}")
        boxes = result.boxes
        refuse(~np.isfinite(boxes).all(axis=1), boxes, "a finite box")
        turned = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
        refuse(turned, boxes, "a box with left <= right and top <= bottom")
        # Few detectors keep their boxes inside; one that far out has another scale.
        height, width = result.size
        size = np.array([width, height])
        outside = ((boxes[:, :2] < -size) | (boxes[:, 2:] > 2 * size)).any(axis=1)
        refuse(
            outside, boxes, f"a box no further off than its {width} x {height} image"
        )
        if masks is not None:
            sizes = [tuple(mask["size"]) for mask in masks]
            other = np.array([one != result.size for one in sizes], bool)
            refuse(
                other, sizes, f"a mask of its image's height and width {result.size}"
            )

    def _from_dataset(self, results: Sequence[_ImageResult], prefix: str) -> COCO:
        truths = [
            {
                "img_id": result.image,
                "height": result.size[0],
                "width": result.size[1],
                "anns": result.truth,
            }
            for result in results
        ]
        return COCO(self.gt_to_coco_json(truths, prefix))

    def _category_ids(self, coco: COCO) -> list[Hashable]:
        classes = self.dataset_meta["classes"]
        return category_ids("CocoMetric", coco.dataset["categories"], classes)

    def _detections(self, results: Sequence[_ImageResult], metric: str) -> Detections:
        boxes = _joined([result.boxes for result in results], (0, 4)).astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        scores, masks = [result.scores for result in results], None
        if metric in ("segm", "boundary"):
            if without := [one.image for one in results if one.masks is None]:
                raise ValueError(
                    f"CocoMetric: metric {metric!r} needs masks; the predictions of "
                    f"image {without[0]} have none. Test a model of masks, or set "
                    "metric='bbox'."
                )
            scores = [_mask_scores(result) for result in results]
            masks = [code for result in results for code in _coded(result)]
        return Detections(
            [result.image for result in results],
            [len(result.labels) for result in results],
            self.cat_ids,
            _joined([result.labels for result in results]).astype(int),
            boxes,
            _joined(scores).astype(float),
            masks,
        )

    def _tell_classes(
        self, annotations: Sequence[dict], names: Mapping[Hashable, str]
    ) -> None:
        """Say of what the figures are means; crowds are no objects to find."""
        crowds = [one for one in annotations if one.get("iscrowd")]
        found = {one["category_id"] for one in annotations if not one.get("iscrowd")}
        absent = [names[one] for one in self.cat_ids if one not in found]
        total = len(self.cat_ids)
        self._remark(
            f"AP and AR are means over the {total - len(absent)} of {total} classes "
            "that have objects",
            absent,
            f"{len(crowds)} of {len(annotations)} annotations are crowds, ignored",
        )

    def _figures(
        self,
        metric: str,
        curves: Curves,
        names: Mapping[Hashable, str],
        logger: MMLogger,
    ) -> dict[str, float]:
        columns = curves.columns()
        items = self.metric_items or columns
        if metric == "proposal":  # of which no class, and so no precision, is known
            return {name: columns[name] for name in items if name.startswith("AR")}
        precisions = [f"{value:.3f}" for value in list(columns.values())[:6]]
        logger.info(f"{metric}_mAP_copypaste: {' '.join(precisions)}")
        figures = {f"{metric}_{name}": columns[name] for name in items}
        if self.classwise:
            rows = []
            ascending = sorted(self.cat_ids)
            for one in self.cat_ids:
                name = names[one]
                values = curves.class_columns(ascending.index(one))
                rows.append([name, *map(cell, values.values())])
                found = values["mAP"]
                figures[f"{metric}_{name}_precision"] = found if found >= 0 else np.nan
            table = AsciiTable([["category", *values], *rows])
            logger.info(f"{metric} by class:\n{table.table}")
        return figures

    def _write(self, results: Sequence[_ImageResult], prefix: str) -> None:
        self.results2json(
            [
                {
                    "img_id": result.image,
                    "bboxes": result.boxes,
                    "scores": result.scores,
                    "labels": result.labels,
                    "mask_scores": _mask_scores(result),
                }
                | ({} if result.masks is None else {"masks": _coded(result)})
                for result in results
            ],
            prefix,
        )


def _array(values: torch.Tensor, dtype: torch.dtype = torch.float32) -> np.ndarray:
    return torch.as_tensor(values).detach().to("cpu", dtype).numpy()


def _code(mask: dict) -> bytes:
    counts = mask["counts"]
    return counts.encode() if isinstance(counts, str) else counts


def _coded(result: _ImageResult) -> list[dict]:
    return [{"size": list(result.size), "counts": code} for code in result.masks]


def _mask_scores(result: _ImageResult) -> np.ndarray:
    return result.scores if result.mask_scores is None else result.mask_scores


def _joined(arrays: Sequence[np.ndarray], empty: tuple[int, ...] = (0,)) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(empty)
