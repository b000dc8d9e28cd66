"""Metrics once more, from stored predictions and the data set's annotations.

Record and predictions may come from anybody: only known metrics and data sets are
built from the config that a record holds, without the arguments that write files.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, METRICS, TRANSFORMS, init_default_scope

import mmrev.evaluation  # noqa: F401  registers the metrics
from mmrev.evaluation.predictions import image_name, read_predictions
from mmrev.leaderboard.record import MeasuredRecord

__all__ = ["NotRecomputableError", "build_dataset", "recompute"]

# The arguments that decide a figure; others write files.
_ARGUMENTS = {
    "CocoMetric": (
        *("metric", "classwise", "proposal_nums", "iou_thrs", "metric_items"),
        *("engine", "prefix", "sort_categories"),
    ),
    "CocoPanopticMetric": ("classwise", "prefix"),
    "IoUMetric": ("iou_metrics", "nan_to_num", "beta", "ignore_index", "prefix"),
    "Accuracy": ("topk", "thrs", "prefix"),
    "SingleLabelMetric": ("thrs", "items", "average", "num_classes", "prefix"),
}
# What the packages raise on arguments or annotations that nobody checked.
_OF_FOREIGN_SETTINGS = (
    *(KeyError, IndexError, TypeError, AttributeError),
    *(AssertionError, RuntimeError),
)
_TYPE = re.compile(r"((mmdet|mmseg|mmpretrain|mmrev)\.)?(\w+)")


class NotRecomputableError(ValueError):
    """The config has a metric that is none of those which can be recomputed."""


def build_dataset(record: MeasuredRecord, data_root: str | Path) -> Any:
    """Build the data set of a test, with its annotations and without its images.

    Args:
        record: Its config says which.
        data_root: Where the data lies.

    Raises:
        ValueError: It cannot be built.
        OSError: The annotations are not there.
    """
    config = record.config.resolved
    init_default_scope(str(config.get("default_scope") or "mmengine"))
    settings = _test_dataset(config)
    _name_of(settings)
    for key in ("pipeline", "backend_args", "lazy_init", "file_client_args"):
        settings.pop(key, None)
    if data_root:
        settings["data_root"] = str(data_root)
    try:
        with _silence():
            return DATASETS.build({**settings, "pipeline": []})
    except _OF_FOREIGN_SETTINGS as error:
        raise ValueError(f"data set {settings['type']}: {error!r}") from error


def recompute(
    record: MeasuredRecord, predictions: str | Path, dataset: Any
) -> dict[str, float]:
    """Evaluate stored predictions as the record's config says.

    Args:
        record: Whose metrics are wanted.
        predictions: File of `mmrev.evaluation.predictions`.
        dataset: Of `build_dataset`.

    Returns:
        The metrics by name.

    Raises:
        NotRecomputableError: The config has a metric that cannot be.
        ValueError: The predictions do not fit the data set.
    """
    root = getattr(dataset, "data_root", None) or ""
    truths = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        truths[image_name(info["img_path"], root)] = info
    try:
        with _silence():
            return _evaluated(record, predictions, dataset, truths)
    except _OF_FOREIGN_SETTINGS as error:
        raise ValueError(f"the config's test_evaluator: {error!r}") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the tables and reports of data sets and metrics to themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _evaluated(
    record: MeasuredRecord,
    predictions: str | Path,
    dataset: Any,
    truths: Mapping[str, dict],
) -> dict[str, float]:
    evaluator = Evaluator(_metrics(record, dataset))
    evaluator.dataset_meta = dataset.metainfo
    load = _annotation_loader(record) if "semantic" in record.task else None
    # A folder of images need not name its classes.
    classes, number = len(dataset.metainfo.get("classes") or ()), 0
    for image, sample in read_predictions(predictions):
        if image not in truths:
            raise ValueError(
                f"predictions {predictions}: expected images of the data set, got "
                f"{image[:100]!r}"
            )
        try:
            sample = _with_truth(sample, truths[image], classes)
            if load:
                labels = load(dict(truths[image]))["gt_seg_map"]
                sample["gt_sem_seg"] = {"data": torch.as_tensor(labels).long()[None]}
                _same_shape(sample)
            evaluator.process([sample])
        except ValueError as error:
            raise ValueError(
                f"predictions {predictions}: image {image[:100]}: {error}"
            ) from error
        number += 1
    if number != record.dataset.images_evaluated:
        raise ValueError(
            f"predictions {predictions}: expected those of "
            f"{record.dataset.images_evaluated} images, got {number}"
        )
    return evaluator.evaluate(len(dataset))


def _test_dataset(config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        settings = config["test_dataloader"]["dataset"]
        while "dataset" in settings:
            settings = settings["dataset"]
        return deepcopy(dict(settings))
    except (KeyError, TypeError) as error:
        raise ValueError("the config has no test data set") from error


def _name_of(settings: Any) -> str:
    """The class that settings name, if it may be built."""
    kind = settings.get("type") if isinstance(settings, Mapping) else None
    if not isinstance(kind, str) or not (match := _TYPE.fullmatch(kind)):
        raise ValueError(f"expected a class of the OpenMMLab packages, got {kind!r}")
    return match[3]


def _metrics(record: MeasuredRecord, dataset: Any) -> list[Any]:
    evaluator = record.config.resolved.get("test_evaluator")
    metrics = []
    for settings in evaluator if isinstance(evaluator, list) else [evaluator]:
        name = _name_of(settings)
        if name not in _ARGUMENTS:
            raise NotRecomputableError(
                f"{name} cannot be recomputed, only {', '.join(_ARGUMENTS)}"
            )
        kept = {key: settings[key] for key in _ARGUMENTS[name] if key in settings}
        kind = settings["type"]
        if name == "CocoMetric":
            kept |= _places(settings, ann_file=dataset.ann_file)
        if name == "CocoPanopticMetric":
            # mmdet's needs what PyPI does not have; its figures are the same unless a
            # stuff class has label 0, which it takes for void.
            kind, maps = f"mmrev.{name}", dataset.data_prefix["seg"]
            kept |= _places(settings, ann_file=dataset.ann_file, seg_prefix=maps)
        metrics.append(METRICS.build({"type": kind, **kept}))
    return metrics


def _places(settings: Mapping[str, Any], **own: str) -> dict[str, str]:
    """The data set's own places of annotations, unless other ones are stated."""
    for key, place in own.items():
        stated = settings.get(key)
        if stated and not str(place).strip("/").endswith(str(stated).strip("/")):
            raise NotRecomputableError(
                f"test_evaluator.{key} {stated!r} is not the data set's {place!r}"
            )
    return own


def _annotation_loader(record: MeasuredRecord) -> Any:
    """The step of the pipeline that reads a label map."""
    pipeline = _test_dataset(record.config.resolved).get("pipeline") or []
    for step in pipeline:
        if isinstance(step, Mapping) and str(step.get("type")).endswith(
            "LoadAnnotations"
        ):
            _name_of(step)
            return TRANSFORMS.build(dict(step))
    raise ValueError("the config's pipeline loads no annotations")


def _with_truth(sample: dict, truth: dict, classes: int) -> dict:
    """Add what a metric compares with, after a look at what it does not check."""
    if "img_id" in sample:
        if sample["img_id"] != truth["img_id"]:
            raise ValueError(f"expected id {truth['img_id']}, got {sample['img_id']}")
        size = (truth["height"], truth["width"])
        if sample["ori_shape"] != size:
            raise ValueError(f"expected the size {size}, got {sample['ori_shape']}")
    if found := sample.get("pred_instances"):
        labels = found["labels"]
    elif "pred_panoptic_seg" in sample:
        return {**sample, "img_path": truth["img_path"]}  # its metric checks the ids
    elif "pred_sem_seg" in sample:
        labels = sample["pred_sem_seg"]["data"]
    else:
        true, scores = (
            torch.as_tensor(truth["gt_label"]).flatten(),
            sample["pred_score"],
        )
        classes = classes or max(len(scores), int(true.max()) + 1)
        if len(scores) != classes:
            raise ValueError(f"expected scores of {classes} classes, got {len(scores)}")
        return {**sample, "gt_label": true}
    if labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"expected classes of 0..{classes - 1}, got "
            f"{int(labels.min())}..{int(labels.max())}"
        )
    return {**sample, "img_path": truth["img_path"]}


def _same_shape(sample: dict) -> None:
    got, want = (
        tuple(sample[key]["data"].shape[1:]) for key in ("pred_sem_seg", "gt_sem_seg")
    )
    if got != want:
        raise ValueError(f"expected a label map of {want}, got {got}")
