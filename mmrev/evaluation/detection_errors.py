"""What goes wrong in detection: TIDE's six kinds of errors, and what each costs.

Paper: arXiv 2008.08115, sections 2.2 (kinds) and 2.3 (what fixing one gains).
Reference: dbolya/tide @09eeffb, whose order of tests decides where a false positive
fits two kinds. Deviations: AP is averaged over the classes that have objects, as COCO
does, where the reference adds those that were only predicted; a class without anything
left to find, once its missed objects are removed, has AP 1 if nothing else was
predicted, where the reference leaves it out; an IoU of exactly `foreground` is no error
of localisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "KINDS",
    "ErrorSummary",
    "ImageBoxes",
    "ImageErrors",
    "best_threshold",
    "split_errors",
    "summarise",
]

KINDS = (
    "classification",
    "localisation",
    "both",
    "duplicate",
    "background",
    "missed",
)


@dataclass(frozen=True)
class ImageBoxes:
    """Detections and objects of one image; boxes are left, top, right, bottom, pixels.

    Attributes:
        boxes: detections, (N, 4).
        labels: (N,).
        scores: (N,).
        objects: ground truth, (M, 4).
        object_labels: (M,).
        crowds: regions where detections of a class count neither way, (K, 4).
        crowd_labels: (K,).
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    objects: np.ndarray
    object_labels: np.ndarray
    crowds: np.ndarray
    crowd_labels: np.ndarray

    def above(self, threshold: float) -> "ImageBoxes":
        """The same image with the detections of at least that score."""
        kept = self.scores >= threshold
        return ImageBoxes(
            self.boxes[kept],
            self.labels[kept],
            self.scores[kept],
            self.objects,
            self.object_labels,
            self.crowds,
            self.crowd_labels,
        )


@dataclass(frozen=True)
class ImageErrors:
    """What each detection and each object of an image is.

    Attributes:
        kinds: of detections, (N,): 'right', 'ignored', or one of `KINDS` but 'missed'.
        meant: index of the object that a detection of kind right, classification or
            localisation belongs to, (N,); -1 for the others.
        fixable: errors that would be right if corrected, (N,); the others of their
            kind are duplicates then.
        states: of objects, (M,): 'found', 'missed', or the kind of the error that
            takes the blame.
    """

    kinds: np.ndarray
    meant: np.ndarray
    fixable: np.ndarray
    states: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """Number of errors by kind."""
        counts = {kind: int((self.kinds == kind).sum()) for kind in KINDS}
        return counts | {"missed": int((self.states == "missed").sum())}

    @property
    def f1(self) -> float:
        """Twice the right detections over all detections and objects; 1 if none."""
        found = int((self.states == "found").sum())
        total = int((self.kinds != "ignored").sum()) + len(self.states)
        return 2 * found / total if total else 1.0


@dataclass(frozen=True)
class ErrorSummary:
    """The errors of many images.

    Attributes:
        ap: average precision at the foreground threshold, 0..1; NaN without objects.
        counts: errors by kind.
        gains: what AP would gain if all errors of that kind alone were fixed.
    """

    ap: float
    counts: dict[str, int]
    gains: dict[str, float]


def split_errors(
    image: ImageBoxes, foreground: float = 0.5, background: float = 0.1
) -> ImageErrors:
    """Say of every detection and object of an image what it is.

    Args:
        image: its boxes.
        foreground: IoU from which a detection finds an object.
        background: IoU up to which it lies beside every object.
    """
    overlap = _iou(image.boxes, image.objects)
    alike = overlap * (image.labels[:, None] == image.object_labels)
    other = overlap - alike
    order = np.argsort(-image.scores, kind="stable")

    right = np.zeros(len(image.boxes), bool)
    meant = np.full(len(image.boxes), -1)
    states = np.full(len(image.objects), "missed", dtype="<U14")
    free = alike.copy()
    for index in order:
        if free[index].max(initial=0) >= foreground:
            taken = meant[index] = free[index].argmax()
            right[index] = True
            states[taken] = "found"
            free[:, taken] = 0

    covered = _iou(image.boxes, image.crowds, of_first=True)
    covered = covered * (image.labels[:, None] == image.crowd_labels)
    best_alike = alike.max(axis=1, initial=0)
    best_other = other.max(axis=1, initial=0)
    cases = {
        "right": right,
        "ignored": covered.max(axis=1, initial=0) > foreground,
        "localisation": (best_alike >= background) & (best_alike < foreground),
        "classification": best_other >= foreground,
        "duplicate": best_alike >= foreground,
        "background": np.maximum(best_alike, best_other) <= background,
    }
    kinds = np.select(list(cases.values()), list(cases), default="both")

    fixable = np.zeros(len(image.boxes), bool)
    for index in order:
        kind = str(kinds[index])
        if kind in ("classification", "localisation"):
            iou = other if kind == "classification" else alike
            wanted = meant[index] = iou[index].argmax()
            # Of several that claim an object, whatever their kinds, one is fixed: the
            # surest, as in the reference.
            if states[wanted] == "missed":
                states[wanted] = kind
                fixable[index] = True
    return ImageErrors(kinds, meant, fixable, states)


def summarise(
    images: Sequence[ImageBoxes], foreground: float = 0.5, background: float = 0.1
) -> ErrorSummary:
    """Count the errors of many images, and tell what each kind costs.

    Fixed means: of classification, the detection takes the object's class; of
    localisation, it finds its object; both, duplicate and background, it is removed;
    missed, the object is. Fixed errors that are not `fixable` are removed.

    Args:
        images: their boxes.
        foreground: as of `split_errors`.
        background: as of `split_errors`.
    """
    errors = [split_errors(image, foreground, background) for image in images]
    kinds = _joined([e.kinds for e in errors], str)
    fixable = _joined([e.fixable for e in errors], bool)
    states = _joined([e.states for e in errors], str)
    scores = _joined([image.scores for image in images], float)
    labels = _joined([image.labels for image in images], int)
    objects = _joined([image.object_labels for image in images], int)
    corrected = _joined(
        [
            np.where(e.meant >= 0, np.append(image.object_labels, -1)[e.meant], -1)
            for image, e in zip(images, errors, strict=True)
        ],
        int,
    )
    classes, positives = np.unique(objects, return_counts=True)
    right, kept = kinds == "right", kinds != "ignored"
    columns = (scores, labels, right)
    ap = _mean_ap(classes, positives, *(column[kept] for column in columns))
    gains = {}
    for kind in KINDS:
        chosen = kinds == kind
        fixed = chosen & fixable
        columns = (scores, np.where(fixed, corrected, labels), right | fixed)
        left = kept & (~chosen | fixable)
        remaining = positives
        if kind == "missed":
            remaining = np.array(
                [((objects == c) & (states != "missed")).sum() for c in classes]
            )
        new = _mean_ap(classes, remaining, *(column[left] for column in columns))
        # Below 0 only through the 101 steps of recall.
        gains[kind] = max(new - ap, 0.0)
    counts = {kind: sum(e.counts[kind] for e in errors) for kind in KINDS}
    return ErrorSummary(ap, counts, gains)


def best_threshold(images: Sequence[ImageBoxes], foreground: float = 0.5) -> float:
    """The score from which on detections give the highest F1 of all images.

    Where no detection is right, the one that leaves as many as there are objects.

    Args:
        images: their boxes.
        foreground: IoU from which a detection finds an object.
    """
    kinds = [split_errors(image, foreground).kinds for image in images]
    kept = _joined(kinds, str) != "ignored"
    right = (_joined(kinds, str) == "right")[kept]
    scores = _joined([image.scores for image in images], float)[kept]
    objects = sum(len(image.objects) for image in images)
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(right[order])
    number = np.arange(1, len(scores) + 1)
    if found[-1] == 0:
        return float(scores[order][min(max(objects, 1), len(scores)) - 1])
    f1 = 2 * found / (number + objects)
    # Equal scores stand or fall together.
    last = np.append(np.diff(scores[order]) != 0, True)
    return float(scores[order][np.where(last, f1, -1).argmax()])


def _mean_ap(
    classes: np.ndarray,
    positives: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    right: np.ndarray,
) -> float:
    values = [
        _ap(scores[labels == label], right[labels == label], int(number))
        for label, number in zip(classes, positives, strict=True)
    ]
    return float(np.mean(values)) if values else float("nan")


def _ap(scores: np.ndarray, right: np.ndarray, positives: int) -> float:
    """AP of a class: the mean of COCO's precision at recall 0, 0.01, ... 1."""
    if positives == 0:
        return float(len(scores) == 0)
    found = np.cumsum(right[np.argsort(-scores, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(found / positives, np.linspace(0, 1, 101))
    return float(np.append(precision, 0)[places].mean())


def _iou(boxes: np.ndarray, others: np.ndarray, of_first: bool = False) -> np.ndarray:
    """Intersections over unions, or over the areas of `boxes`; (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=-1)
    first = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)[:, None]
    second = (others[:, 2:] - others[:, :2]).prod(axis=-1)[None]
    whole = first + 0 * second if of_first else first + second - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _joined(arrays: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, kind)
