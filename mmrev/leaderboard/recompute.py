"""Metrics once more, from stored predictions and the data set's annotations.

Record and predictions may come from anybody: only known metrics and data sets are
built from the config that a record holds, by names that are registered, from files
below the data root, and without the arguments that write files or unpickle them.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, METRICS, TRANSFORMS, init_default_scope

import mmrev.evaluation  # noqa: F401  registers the metrics
from mmrev.class_order import order_classes
from mmrev.console import hushed
from mmrev.evaluation.coverage import image_key
from mmrev.evaluation.predictions import image_name, read_predictions
from mmrev.leaderboard.record import DataPart, MeasuredRecord
from mmrev.paths import leads_out
from mmrev.registry import use_registered_names
from mmrev.wrappers import plain_settings

__all__ = ["NotRecomputableError", "build_dataset", "data_parts", "recompute"]

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
# Data sets of images and annotations that are read as they lie there; of others some
# unpickle, download or compose what they are.
_DATASETS = {"CocoDataset", "BaseSegDataset", "CustomDataset", "DigitCrops"}
_OF_DATA = {
    *("type", "_scope_", "data_root", "ann_file", "data_prefix", "metainfo"),
    *("filter_cfg", "indices", "test_mode", "split", "serialize_data", "max_refetch"),
    *("img_suffix", "seg_map_suffix", "reduce_zero_label", "ignore_index"),
    *("with_label", "extensions", "return_classes", "size", "num_rounds", "scenes"),
}
_NOT_NEEDED = ("pipeline", "backend_args", "lazy_init", "file_client_args")
# Of images that are composed one by one.
_MOST = {"num_rounds": 1000, "size": 4096}
# The embedded scenes as they lie there; their own classes compose what is missing.
_SCENES = {
    "ScenesDetDataset": {"type": "mmdet.CocoDataset"},
    "ScenesSegDataset": {
        "type": "mmseg.BaseSegDataset",
        "img_suffix": ".png",
        "seg_map_suffix": ".png",
        "reduce_zero_label": False,
    },
}
# What the packages raise on arguments or annotations that nobody checked.
_OF_FOREIGN_SETTINGS = (
    *(KeyError, IndexError, TypeError, AttributeError),
    *(AssertionError, RuntimeError),
)
_TYPE = re.compile(r"((mmdet|mmseg|mmpretrain|mmrev)\.)?(\w+)")


class NotRecomputableError(ValueError):
    """The config has a metric that is none of those which can be recomputed."""


def data_parts(record: MeasuredRecord) -> Sequence[DataPart]:
    """The data sets of a test, one by one."""
    data = record.dataset
    shared = data.model_dump(include={"split", "type", "root", "fingerprint"})
    return data.parts or [DataPart(**shared, folder=0)]


def build_dataset(
    record: MeasuredRecord, data_root: str | Path, number: int = 0
) -> Any:
    """Build a data set of a test, with its annotations and without its images.

    Args:
        record: Its config says which.
        data_root: Where the data lies.
        number: Of those that were tested together.

    Raises:
        ValueError: It cannot be built, or is not to be.
        OSError: The annotations are not there.
    """
    use_registered_names()
    config = record.config.resolved
    init_default_scope(str(config.get("default_scope") or "mmengine"))
    settings = _test_datasets(config)
    if number >= len(settings):
        raise ValueError(f"the config has no test data set {number}")
    try:
        with _silence():
            settings = _harmless(settings[number])
            if data_root:
                settings["data_root"] = str(data_root)
            return DATASETS.build({**order_classes(settings), "pipeline": []})
    except _OF_FOREIGN_SETTINGS as error:
        raise ValueError(f"data set {settings['type']}: {error!r}") from error


def recompute(
    record: MeasuredRecord, predictions: str | Path, datasets: Sequence[Any]
) -> dict[str, float]:
    """Evaluate stored predictions as the record's config says.

    Args:
        record: Whose metrics are wanted.
        predictions: File of `mmrev.evaluation.predictions`.
        datasets: Of `build_dataset`, as many as `data_parts`.

    Returns:
        The metrics by name.

    Raises:
        NotRecomputableError: The config has a metric that cannot be.
        ValueError: The predictions do not fit the data set.
    """
    use_registered_names()
    classes = [dataset.metainfo.get("classes") for dataset in datasets]
    if any(one != classes[0] for one in classes):
        raise NotRecomputableError("the data sets have different classes")
    truths = _truths(record, datasets)
    try:
        with _silence():
            return _evaluated(record, predictions, datasets, truths)
    except _OF_FOREIGN_SETTINGS as error:
        raise ValueError(f"the config's test_evaluator: {error!r}") from error


def _truths(
    record: MeasuredRecord, datasets: Sequence[Any]
) -> dict[str, tuple[int, dict]]:
    """The number of its data set and what that says of each image, by its name."""
    parts = data_parts(record)
    several = len({part.folder for part in parts}) > 1
    truths: dict[str, tuple[int, dict]] = {}
    for number, (part, dataset) in enumerate(zip(parts, datasets, strict=True)):
        roots = [getattr(dataset, "data_root", None) or ""]
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            name = image_name(image_key(info), roots)
            name = f"{part.folder}/{name}" if several else name
            truths.setdefault(name, (number, info))
    return truths


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the tables and reports of data sets and metrics to themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), hushed():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _evaluated(
    record: MeasuredRecord,
    predictions: str | Path,
    datasets: Sequence[Any],
    truths: Mapping[str, tuple[int, dict]],
) -> dict[str, float]:
    evaluator = Evaluator(_metrics(record, datasets))
    evaluator.dataset_meta = datasets[0].metainfo
    loaders = _annotation_loaders(record) if "semantic" in record.task else ()
    # A folder of images need not name its classes.
    classes, number = len(datasets[0].metainfo.get("classes") or ()), 0
    for image, sample in read_predictions(predictions):
        if image not in truths:
            raise ValueError(
                f"predictions {predictions}: expected images of the data set, got "
                f"{image[:100]!r}"
            )
        try:
            part, truth = truths[image]
            sample = _with_truth(sample, truth, classes)
            if loaders:
                labels = loaders[part](dict(truth))["gt_seg_map"]
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
    return evaluator.evaluate(record.dataset.images_expected)


def _test_datasets(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Settings of the data sets of a test, without wrappers."""
    try:
        settings = plain_settings(config["test_dataloader"]["dataset"], "")
        return [deepcopy(dict(one)) for _, one in settings]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("the config has no test data set") from error


def _harmless(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a data set that reads what lies below its root, as it is."""
    name = _name_of(settings)
    with DATASETS.switch_scope_and_registry(settings.get("_scope_")) as registry:
        kind = registry.get(settings["type"])
    known = {base.__name__ for base in getattr(kind, "__mro__", ())}
    if not known & _DATASETS:
        raise ValueError(
            f"a data set of {name} is not built for others; expected one of "
            f"{', '.join(sorted(_DATASETS))}"
        )
    settings = {key: one for key, one in settings.items() if key not in _NOT_NEEDED}
    settings.pop("data_root", None)
    if others := settings.keys() - _OF_DATA:
        raise ValueError(f"a data set with {min(others)!r:.60} is not built for others")
    for text in _texts(settings):
        if leads_out(text):
            raise ValueError(f"expected names below the data root, got {text!r:.100}")
    for key, most in _MOST.items():
        if not 0 <= settings.get(key, 0) <= most:
            raise ValueError(f"{key}: expected at most {most}, got {settings[key]}")
    if name in _SCENES:
        settings.pop("scenes", None)
        settings |= {"metainfo": dict(kind.METAINFO), **_SCENES[name]}
    return settings


def _texts(value: Any) -> Iterator[str]:
    """Every text in some settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def _name_of(settings: Any) -> str:
    """The class that settings name, if it may be built."""
    kind = settings.get("type") if isinstance(settings, Mapping) else None
    if not isinstance(kind, str) or not (match := _TYPE.fullmatch(kind)):
        raise ValueError(f"expected a class of the OpenMMLab packages, got {kind!r}")
    return match[3]


def _metrics(record: MeasuredRecord, datasets: Sequence[Any]) -> list[Any]:
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
        # Without a file the metric takes what the data set says of each image.
        if name == "CocoMetric" and settings.get("ann_file"):
            kept |= _places(settings, ann_file=_own("ann_file", datasets))
        if name == "CocoPanopticMetric":
            # mmdet's needs what PyPI does not have; its figures are the same unless a
            # stuff class has label 0, which it takes for void.
            kind, prefixes = f"mmrev.{name}", _own("data_prefix", datasets)
            places = {"ann_file": _own("ann_file", datasets)}
            kept |= _places(settings, **places, seg_prefix=prefixes["seg"])
        metrics.append(METRICS.build({"type": kind, **kept}))
    return metrics


def _own(name: str, datasets: Sequence[Any]) -> Any:
    """What all data sets have in common."""
    values = [getattr(dataset, name) for dataset in datasets]
    if any(value != values[0] for value in values):
        raise NotRecomputableError(
            f"the metric reads annotations of its own for {len(values)} data sets"
        )
    return values[0]


def _places(settings: Mapping[str, Any], **own: str) -> dict[str, str]:
    """The data set's own places of annotations, unless other ones are stated."""
    for key, place in own.items():
        stated = settings.get(key)
        if stated and not str(place).strip("/").endswith(str(stated).strip("/")):
            raise NotRecomputableError(
                f"test_evaluator.{key} {stated!r} is not the data set's {place!r}"
            )
    return own


def _annotation_loaders(record: MeasuredRecord) -> list[Any]:
    """The step of the pipeline that reads a label map, of each data set."""
    settings = _test_datasets(record.config.resolved)
    return [_annotation_loader(one.get("pipeline") or []) for one in settings]


def _annotation_loader(pipeline: Sequence[Any]) -> Any:
    for step in pipeline:
        if isinstance(step, Mapping) and str(step.get("type")).endswith(
            "LoadAnnotations"
        ):
            _name_of(step)
            kept = {key: one for key, one in step.items() if key not in _NOT_NEEDED}
            return TRANSFORMS.build(kept)
    raise ValueError("the config's pipeline loads no annotations")


def _with_truth(sample: dict, truth: dict, classes: int) -> dict:
    """Add what a metric compares with, after a look at what it does not check."""
    if "img_id" in sample:
        if sample["img_id"] != truth["img_id"]:
            raise ValueError(f"expected id {truth['img_id']}, got {sample['img_id']}")
        size = (truth["height"], truth["width"])
        # Some are loaded turned, as EXIF asks, though the annotations do not say so.
        if sample["ori_shape"] not in (size, size[::-1]):
            raise ValueError(f"expected the size {size}, got {sample['ori_shape']}")
        if "instances" in truth:
            sample = {**sample, "instances": truth["instances"]}
    if found := sample.get("pred_instances"):
        labels = found["labels"]
    elif "pred_panoptic_seg" in sample:
        return {**sample, "img_path": image_key(truth)}  # its metric checks the ids
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
    return {**sample, "img_path": image_key(truth)}


def _same_shape(sample: dict) -> None:
    got, want = (
        tuple(sample[key]["data"].shape[1:]) for key in ("pred_sem_seg", "gt_sem_seg")
    )
    if got != want:
        raise ValueError(f"expected a label map of {want}, got {got}")
