"""The page of ``tools/browse.py`` for segmentation."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.structures import BaseDataElement

from mmrev.browse.page import (
    Card,
    Confusion,
    Pane,
    Report,
    Table,
    new_card,
    overlay,
    prediction,
)
from mmrev.errors import UserError
from mmrev.evaluation.coverage import image_key

__all__ = ["SegmentationPage", "class_ious", "confusion_matrix"]

# Okabe and Ito's colours, told apart by the colour-blind; grey first, since the
# largest class of an image is most often what lies behind the others.
COLOURS = (
    *("#999999", "#E69F00", "#56B4E9", "#009E73"),
    *("#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
)
UNLABELLED, WRONG = COLOURS[0], COLOURS[6]
IGNORED = 255
# Part of an image from which a region shows its name.
NAMED_FROM = 0.005
MOST_PAIRS = 15


def confusion_matrix(
    truth: np.ndarray, found: np.ndarray, num_classes: int
) -> np.ndarray:
    """Count pixels by true and found class, without those that have no class.

    Args:
        truth: labels of any shape; what is not below `num_classes` has no class.
        found: labels of as many pixels; what is not below has no class, either.
        num_classes: number of classes.

    Returns:
        Rows true, columns found, (num_classes, num_classes).
    """
    known = (truth < num_classes) & (found < num_classes)
    pairs = truth[known].astype(np.int64) * num_classes + found[known]
    counts = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_ious(matrix: np.ndarray) -> np.ndarray:
    """IoU of each class of a confusion matrix; NaN if neither true nor found."""
    right = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


class SegmentationPage:
    """Collects images with label maps.

    Args:
        classes: their names.
        predicted: whether there are predictions.
    """

    def __init__(self, classes: Sequence[str], predicted: bool):
        self.classes = classes
        self.predicted = predicted
        self.cards: list[Card] = []
        self.matrix = np.zeros((len(classes), len(classes)), np.int64)

    def add(self, loaded: Mapping[str, Any], sample: BaseDataElement | None) -> None:
        """Add an image.

        Args:
            loaded: image and annotations, as `read_image` gives them.
            sample: the model's.

        Raises:
            UserError: the model predicts no label map, or the true one has another
                size than the image.
        """
        truth, found = np.asarray(loaded["gt_seg_map"]), None
        if truth.shape != loaded["img"].shape[:2]:
            shapes = loaded["img"].shape, truth.shape
            sizes = ["x".join(map(str, shape[1::-1])) for shape in shapes]
            raise UserError(
                f"{image_key(loaded)}: expected labels as large as the image, "
                f"{sizes[0]}, got {sizes[1]}; mend the data set."
            )
        if sample is not None:
            found = prediction(sample, "pred_sem_seg").data[0].numpy()
        card, count = new_card(loaded), len(self.classes)
        maps = [truth] if found is None else [truth, found]
        matrix = confusion_matrix(truth, maps[-1], count)
        self.matrix += matrix
        areas = [np.bincount(labels.ravel(), minlength=count) for labels in maps]
        area = sum(area[:count] for area in areas)
        present = np.flatnonzero(area)
        # The same in all images if classes are few, else by area.
        ranks = np.arange(count)
        if count > len(COLOURS):
            ranks = (-area).argsort(kind="stable").argsort()
        palette = [_colour(rank) for rank in ranks.tolist()]
        card.legend = [(self.classes[c], palette[c]) for c in present]
        card.panes = [self._pane("ground truth", truth, palette)]
        card.note = ", ".join(self.classes[c] for c in present) or "nothing labelled"
        if found is not None:
            wrong = np.where(truth == found, IGNORED, 0)
            wrong[truth >= count] = 1
            errors = Pane("errors", overlay=overlay(wrong, [WRONG, UNLABELLED]))
            card.panes += [self._pane("predictions", found, palette), errors]
            true = np.flatnonzero(matrix.sum(1))
            if len(true):
                ious = class_ious(matrix)[true]
                card.score = 1 - float(ious.mean())
                lowest = ", ".join(
                    f"{self.classes[true[i]]}: {100 * ious[i]:.0f}"
                    for i in ious.argsort(kind="stable")[:3]
                )
                card.note = f"lowest IoU, percent: {lowest}"
        self.cards.append(card)

    def report(self) -> Report:
        """Figures, tables, and the images, those with the lowest mIoU first."""
        matrix, rows = self.matrix, self.matrix.sum(1)
        parts = rows / max(rows.sum(), 1)
        present = np.flatnonzero(rows + matrix.sum(0))
        facts = [("classes that occur", f"{len(present)} of {len(self.classes)}")]
        if not self.predicted:
            order = present[np.argsort(-parts[present], kind="stable")]
            table = Table(
                "Pixels of each class",
                ("class", "pixels"),
                [(self.classes[c], _bar(parts[c], parts.max())) for c in order],
            )
            return Report(facts, [table], self.cards)
        ious = class_ious(matrix)
        right = matrix.trace() / max(matrix.sum(), 1)
        mean = np.nanmean(ious) if len(present) else float("nan")
        facts = [
            ("mIoU of these images", f"{100 * mean:.2f}"),
            ("pixels right", f"{100 * right:.2f} %"),
            *facts,
        ]
        order = present[np.argsort(ious[present], kind="stable")]
        per_class = Table(
            "Classes, the worst first",
            ("class", "IoU", "pixels"),
            [
                (self.classes[c], (f"{100 * ious[c]:.1f}", ious[c]), _percent(parts[c]))
                for c in order
            ],
        )
        # Images where nothing is labelled come last.
        cards = sorted(
            self.cards,
            key=lambda card: -1 if card.score is None else card.score,
            reverse=True,
        )
        tables = [self._pairs(matrix), per_class]
        return Report(facts, tables, cards, confusion=self._confusion(present))

    def _pairs(self, matrix: np.ndarray) -> Table:
        """The classes that are most often taken for another."""
        wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
        total = max(wrong.sum(), 1)
        rows = []
        for true, found in zip(*np.unravel_index(order, wrong.shape), strict=True):
            if number := wrong[true, found]:
                part = number / matrix[true].sum()
                share = _bar(number / total, wrong.max() / total)
                row = (self.classes[true], self.classes[found], share, _percent(part))
                rows.append(row)
        return Table(
            "Most confused",
            ("class", "taken for", "of all errors", "of the class"),
            rows,
        )

    def _confusion(self, present: np.ndarray) -> Confusion:
        rows = self.matrix[np.ix_(present, present)]
        parts = rows / rows.sum(axis=1, keepdims=True).clip(min=1)
        names = [self.classes[c] for c in present]
        return Confusion(names, list(zip(names, parts.tolist(), strict=True)))

    def _pane(self, title: str, labels: np.ndarray, palette: Sequence[str]) -> Pane:
        names, (height, width) = [], labels.shape
        for label in np.unique(labels[labels < len(self.classes)]):
            mask = np.pad(labels == label, 1).astype(np.uint8)
            if mask.sum() < NAMED_FROM * labels.size:
                continue
            # The name stands at the pixel deepest inside.
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)[1:-1, 1:-1]
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            place = 100 * (x + 0.5) / width, 100 * (y + 0.5) / height
            names.append((self.classes[label], *place))
        clean = np.where(labels < len(self.classes), labels, IGNORED)
        return Pane(title, overlay=overlay(clean, palette), names=names)


def _colour(rank: int) -> str:
    """Of that number; darker with each round through the palette."""
    round_, place = divmod(rank, len(COLOURS))
    parts = bytes.fromhex(COLOURS[place][1:])
    return "#" + bytes(round(part * 0.7**round_) for part in parts).hex()


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _bar(part: float, most: float) -> tuple[str, float]:
    return _percent(part), part / max(most, 1e-12)
