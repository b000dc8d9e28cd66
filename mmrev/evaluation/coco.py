"""The COCO protocol on columns of detections, computed by hotcoco or pycocotools.

Both give the same precision, recall and score arrays to the last bit, which the tests
hold. Boundary IoU is faster-coco-eval's part, see `boundary_iou`; its precision may
differ from what pycocotools would accumulate by rounding, below 1e-9. Annotations,
images and classes are numbered anew from 1 before: pycocotools takes a match with
annotation 0 for none, and hotcoco wants ids that are not negative.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from mmrev.console import hushed
from mmrev.evaluation.categories import numbered, refuse_repeated

ENGINES = ("hotcoco", "pycocotools")
BOUNDARY_ENGINE = "faster-coco-eval"
# Width of a boundary, of the image's diagonal.
BOUNDARY_DILATION = 0.02
# Where each has its COCO and its COCOeval.
_MODULES = {
    "hotcoco": ("hotcoco", "hotcoco"),
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval"),
    BOUNDARY_ENGINE: ("faster_coco_eval", "mmrev.evaluation.boundary_iou"),
}
STANDARD_DETECTIONS = (1, 10, 100)
STANDARD_IOU = np.linspace(0.5, 0.95, 10)
_AREAS = ("all", "small", "medium", "large")
# IoU and area of each column, by OpenMMLab's names.
_PRECISIONS = {
    "mAP": (None, "all"),
    "mAP_50": (0.5, "all"),
    "mAP_75": (0.75, "all"),
    "mAP_s": (None, "small"),
    "mAP_m": (None, "medium"),
    "mAP_l": (None, "large"),
}
_RECALLS = {"AR": "all", "AR_s": "small", "AR_m": "medium", "AR_l": "large"}


@dataclass(frozen=True)
class Detections:
    """Detections of many images.

    Attributes:
        images: ids, in the order of the detections.
        counts: how many detections each image has, N in all.
        classes: category ids by label.
        labels: (N,) integers.
        boxes: left, top, width, height in pixels, (N, 4) float64.
        scores: (N,) float64.
        masks: run-length codes as pycocotools encodes them; None without masks.
    """

    images: Sequence[Hashable]
    counts: Sequence[int]
    classes: Sequence[Hashable]
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    masks: list[dict] | None = None


@dataclass(frozen=True)
class Curves:
    """What pycocotools accumulates, -1 where there is nothing to find.

    Attributes:
        precision: (IoU, recall, class, area, detections); classes by ascending id.
        recall: (IoU, class, area, detections).
        scores: as `precision`.
        iou_thrs: thresholds of the first axis.
        max_dets: detections an image of the last axis, ascending.
    """

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray
    iou_thrs: np.ndarray
    max_dets: tuple[int, ...]

    def average_precision(
        self,
        most: int = 100,
        iou: float | None = None,
        area: str = "all",
        number: int | None = None,
    ) -> float:
        """Average the precision.

        Args:
            most: detections an image.
            iou: one threshold; None averages over all.
            area: 'all', 'small', 'medium' or 'large'.
            number: of one class, by ascending id; None averages over all.

        Returns:
            The mean over what there is to find, -1 if that is nothing.
        """
        values = self.precision[..., _AREAS.index(area), self.max_dets.index(most)]
        if iou is not None:
            values = values[self.iou_thrs == iou]
        if number is not None:
            values = values[:, :, number]
        return _mean(values)

    def average_recall(self, most: int = 100, area: str = "all") -> float:
        """Average the recall over thresholds and classes, as `average_precision`."""
        return _mean(self.recall[..., _AREAS.index(area), self.max_dets.index(most)])

    def columns(self) -> dict[str, float]:
        """The columns that `column_names` names, in its order."""
        return {
            name: self.average_precision(most, iou, area)
            if kind == "AP"
            else self.average_recall(most, area)
            for name, (kind, iou, area, most) in _columns(self.max_dets).items()
        }

    def class_columns(self, number: int) -> dict[str, float]:
        """The precisions of one class, by ascending id, at 100 detections."""
        return {
            name: self.average_precision(100, *column, number=number)
            for name, column in _PRECISIONS.items()
        }


def column_names(max_dets: Sequence[int]) -> list[str]:
    """Name COCO's 12 statistics, then those at other numbers of detections.

    Of the others every name ends in the number: mAP_50@1000.
    """
    return list(_columns(max_dets))


def available_engine(wanted: str) -> str:
    """Return the engine to use: the one wanted, pycocotools if that is not installed.

    Raises:
        ValueError: no such engine.
    """
    if wanted not in ENGINES:
        raise ValueError(
            f"CocoMetric: engine must be 'hotcoco' or 'pycocotools', got {wanted!r}."
        )
    return wanted if find_spec(wanted) else "pycocotools"


def engine_for(metric: str, engine: str) -> str:
    """Return the engine that computes a metric: the one given, but for 'boundary'.

    Raises:
        ValueError: it is not installed.
    """
    if metric != "boundary":
        return engine
    if not find_spec("faster_coco_eval"):
        raise ValueError(
            "CocoMetric: metric 'boundary' needs faster-coco-eval, which is not "
            f"installed. Run: pip install {BOUNDARY_ENGINE}"
        )
    return BOUNDARY_ENGINE


def engine_name(engine: str) -> str:
    """Name the engine with its version."""
    return f"{engine} {version(engine)}"


def evaluate(
    truth: dict,
    detections: Detections,
    iou_type: str,
    category_ids: Sequence[int],
    engine: str = "hotcoco",
    max_dets: Sequence[int] = STANDARD_DETECTIONS,
    iou_thrs: Sequence[float] = STANDARD_IOU,
    classes: str = "told apart",
) -> Curves:
    """Match detections with annotations and accumulate.

    Args:
        truth: images, annotations and categories as in a COCO file.
        detections: whose images and classes the file knows.
        iou_type: 'bbox', 'segm' or 'boundary'.
        category_ids: the classes to evaluate.
        engine: as `engine_for` chooses it.
        max_dets: detections an image; COCO's 1, 10 and 100 are added.
        iou_thrs: thresholds.
        classes: 'told apart', or 'ignored' to evaluate proposals.

    Returns:
        The curves.

    Raises:
        ValueError: the file has an id twice, or an annotation without box or area.
    """
    max_dets = tuple(sorted({*STANDARD_DETECTIONS, *max_dets}))
    iou_thrs = np.atleast_1d(iou_thrs).astype(float)
    images = numbered(truth["images"], "CocoMetric: image")
    categories = numbered(truth["categories"], "CocoMetric: category")
    renumbered = {
        "info": {},
        "images": [{**image, "id": images[image["id"]]} for image in truth["images"]],
        "categories": [
            {"id": number, "name": str(number)} for number in categories.values()
        ],
        "annotations": _annotations(
            truth.get("annotations", []), iou_type, images, categories
        ),
    }
    results = _results(detections, iou_type, images, categories)
    modules = [import_module(name) for name in _MODULES[engine]]
    coco, evaluator = modules[0].COCO, modules[1].COCOeval
    with hushed():  # pycocotools reports its steps
        expected = coco()
        expected.dataset = renumbered
        expected.createIndex()
        if len(results):
            found = expected.loadRes(results)
        else:  # which pycocotools refuses to load
            found = coco()
            found.dataset = {**renumbered, "annotations": []}
            found.createIndex()
        run = evaluator(expected, found, iou_type)
        # pycocotools sorts them itself, hotcoco does not.
        run.params.catIds = sorted(categories[one] for one in category_ids)
        run.params.maxDets = list(max_dets)
        run.params.iouThrs = iou_thrs
        run.params.useCats = int(classes == "told apart")
        run.evaluate()
        run.accumulate()
    arrays = (np.asarray(run.eval[key]) for key in ("precision", "recall", "scores"))
    return Curves(*arrays, iou_thrs, max_dets)


def _columns(max_dets: Sequence[int]) -> dict[str, tuple]:
    columns = {name: ("AP", *how, 100) for name, how in _PRECISIONS.items()}
    columns |= {f"AR@{n}": ("AR", None, "all", n) for n in STANDARD_DETECTIONS}
    columns |= {
        f"{name}@100": ("AR", None, area, 100)
        for name, area in _RECALLS.items()
        if area != "all"
    }
    for n in sorted(set(max_dets) - set(STANDARD_DETECTIONS)):
        columns |= {f"{name}@{n}": ("AP", *how, n) for name, how in _PRECISIONS.items()}
        columns |= {
            f"{name}@{n}": ("AR", None, area, n) for name, area in _RECALLS.items()
        }
    return columns


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(np.mean(values)) if values.size else -1.0


def _annotations(
    annotations: Sequence[dict],
    iou_type: str,
    images: dict[Hashable, int],
    categories: dict[Hashable, int],
) -> list[dict]:
    refuse_repeated(annotations, "CocoMetric: annotation")
    shape = "bbox" if iou_type == "bbox" else "segmentation"
    renumbered = []
    for number, one in enumerate(annotations, 1):
        if lacking := {"area", shape} - one.keys():
            raise ValueError(
                f"CocoMetric: annotation {one['id']} has no {sorted(lacking)[0]!r}; "
                "complete the annotations."
            )
        # Annotations of images or classes that the file does not list count for none.
        if one["image_id"] in images and one["category_id"] in categories:
            renumbered.append(
                {
                    "id": number,
                    "image_id": images[one["image_id"]],
                    "category_id": categories[one["category_id"]],
                    "area": one["area"],
                    "iscrowd": int(one.get("iscrowd", 0)),
                    shape: one[shape],
                }
            )
    return renumbered


def _results(
    detections: Detections,
    iou_type: str,
    images: dict[Hashable, int],
    categories: dict[Hashable, int],
) -> np.ndarray | list[dict]:
    # By arrays: of a large test there are millions.
    known = np.array([images[one] for one in detections.images], int)
    numbers = np.repeat(known, detections.counts)
    classes = np.array([categories[one] for one in detections.classes])
    classes = classes[detections.labels]
    if iou_type == "bbox":
        columns = (numbers, detections.boxes, detections.scores, classes)
        return np.column_stack(columns)
    # Without a box, so that the area is the mask's.
    return [
        {"image_id": image, "category_id": kind, "segmentation": mask, "score": score}
        for image, kind, mask, score in zip(
            numbers.tolist(),
            classes.tolist(),
            detections.masks,
            detections.scores.tolist(),
            strict=True,
        )
    ]
