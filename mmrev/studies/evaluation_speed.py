"""Speed and memory of our metrics beside pycocotools, mmdet's and mmseg's."""

import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from rich.table import Table

from mmrev.console import hushed, show
from mmrev.errors import UserError
from mmrev.measure.memory import process_peak
from mmrev.measure.speed import paired_times

with hushed():  # mmdet says what it does without
    from mmdet.evaluation.metrics import CocoMetric as MMDetCocoMetric
    from mmseg.evaluation.metrics import IoUMetric as MMSegIoUMetric

    from mmrev.evaluation.coco_metric import CocoMetric
    from mmrev.evaluation.iou_metric import IoUMetric

HEIGHT, WIDTH = 480, 640
_OBJECTS = 7  # annotations an image, as in COCO


def detection_case(
    images: int, detections: int, classes: int, seed: int = 0
) -> tuple[dict, list[dict]]:
    """Draw random annotations, and as many detections for every image.

    Up to three detections lie near each object; the others are anywhere.

    Returns:
        What a COCO file holds, and what a detector hands to a metric.

    Raises:
        UserError: one of the numbers is below 1.
    """
    if min(images, detections, classes) < 1:
        raise UserError(
            "expected --images, --detections and --classes of at least 1, got "
            f"{images}, {detections} and {classes}."
        )
    rng = np.random.default_rng(seed)
    annotations, samples = [], []
    for image in range(1, images + 1):
        count = rng.poisson(_OBJECTS)
        boxes, labels = _boxes(rng, count), rng.integers(classes, size=count)
        annotations += [
            {
                "id": len(annotations) + number,
                "image_id": image,
                "category_id": int(label) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
            for number, ((left, top, right, bottom), label) in enumerate(
                zip(boxes.tolist(), labels, strict=True), 1
            )
        ]
        near = np.repeat(np.arange(count), 3)[:detections]
        others = detections - len(near)
        shifted = boxes[near] + rng.normal(0, 3, (len(near), 4))
        shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2])
        found = np.concatenate([shifted, _boxes(rng, others)])
        found_labels = np.append(labels[near], rng.integers(classes, size=others))
        instances = {
            "bboxes": torch.from_numpy(found).float(),
            "scores": torch.from_numpy(rng.random(detections)).float(),
            "labels": torch.from_numpy(found_labels),
        }
        samples.append(
            {
                "img_id": image,
                "ori_shape": (HEIGHT, WIDTH),
                "pred_instances": instances,
            }
        )
    truth = {
        "images": [
            {"id": image, "height": HEIGHT, "width": WIDTH, "file_name": ""}
            for image in range(1, images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": str(i)} for i in range(classes)],
    }
    return truth, samples


def segmentation_case(size: int, classes: int, seed: int = 0) -> dict:
    """Draw label maps of (size, size) in squares, 30 % predicted anew, 10 % ignored."""
    generator = torch.Generator().manual_seed(seed)
    side = size // 32
    label = torch.randint(classes, (32, 32), generator=generator)
    label = label.repeat_interleave(side, 0).repeat_interleave(side, 1)
    chance = torch.rand(label.shape, generator=generator)
    anew = torch.randint(classes, label.shape, generator=generator)
    pred = torch.where(chance < 0.3, anew, label)
    label = label.masked_fill(torch.rand(label.shape, generator=generator) < 0.1, 255)
    return {
        "img_path": "",
        "gt_sem_seg": {"data": label[None]},
        "pred_sem_seg": {"data": pred[None]},
    }


def detection_metric(name: str, ann_file: str, classes: int) -> BaseMetric:
    """Build ours by engine, 'hotcoco' or 'pycocotools', or the metric of 'mmdet'."""
    with hushed():
        if name == "mmdet":
            metric = MMDetCocoMetric(ann_file, proposal_nums=(1, 10, 100))
        else:
            metric = CocoMetric(ann_file, engine=name)
    metric.dataset_meta = {"classes": [str(i) for i in range(classes)]}
    return metric


def detection_times(
    images: int, detections: int, classes: int, repeats: int
) -> dict[str, float]:
    """Seconds from the first image's predictions to the figures, by metric."""
    truth, samples = detection_case(images, detections, classes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "truth.json")
        path.write_text(json.dumps(truth), encoding="utf-8")
        metrics = {
            name: detection_metric(name, str(path), classes)
            for name in ("hotcoco", "pycocotools", "mmdet")
        }
        steps = {
            name: partial(_evaluate, metric, samples)
            for name, metric in metrics.items()
        }
        return paired_times(steps, repeats)


def detection_memory(name: str, images: int, detections: int, classes: int) -> int:
    """Measure how far the resident memory of a process of its own rises, in bytes."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(
            _detection_memory, name, images, detections, classes
        ).result()


def segmentation_times(size: int, classes: int, repeats: int) -> dict[str, float]:
    """Seconds an image of one thread, as beside data loaders, by metric."""
    sample = segmentation_case(size, classes)
    steps = {}
    for name, kind in (("mmrev", IoUMetric), ("mmseg", MMSegIoUMetric)):
        metric = kind()
        metric.dataset_meta = {"classes": [str(i) for i in range(classes)]}
        steps[name] = partial(metric.process, {}, [sample])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return paired_times(steps, repeats)
    finally:
        torch.set_num_threads(threads)


def print_evaluation_speed(
    images: int, detections: int, classes: int, repeats: int
) -> None:
    """Measure and print; masks have 512 x 512 pixels and 150 classes."""
    case = (images, detections, classes)
    table = Table("boxes", "seconds", "times ours", "peak MB")
    table.caption = f"{images} images, {detections} detections each, {classes} classes"
    times = detection_times(*case, repeats)
    for name, seconds in times.items():
        peak = detection_memory(name, *case)
        table.add_row(
            name,
            f"{seconds:.2f}",
            f"{seconds / times['hotcoco']:.1f}",
            f"{peak / 2**20:.0f}",
        )
    show(table)
    table = Table("label maps", "ms an image", "times ours")
    table.caption = "512 x 512, 150 classes, one thread"
    times = segmentation_times(512, 150, 31)
    for name, seconds in times.items():
        ratio = seconds / times["mmrev"]
        table.add_row(name, f"{1e3 * seconds:.2f}", f"{ratio:.1f}")
    show(table)


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, (0.6 * WIDTH, 0.6 * HEIGHT), (count, 2))
    return np.hstack([corner, corner + np.exp(rng.uniform(2, 5, (count, 2)))])


def _evaluate(metric: BaseMetric, samples: list[dict]) -> None:
    with hushed():
        for sample in samples:
            metric.process({}, [sample])
        metric.evaluate(len(samples))


def _detection_memory(name: str, images: int, detections: int, classes: int) -> int:
    truth, samples = detection_case(images, detections, classes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "truth.json")
        path.write_text(json.dumps(truth), encoding="utf-8")
        metric = detection_metric(name, str(path), classes)
        _evaluate(metric, samples[:2])  # the first call of anything loads code
        start = process_peak(lambda: None)
        return process_peak(partial(_evaluate, metric, samples)) - start
