"""The page of ``tools/browse.py`` for detection."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from mmrev.browse.page import (
    Card,
    Mark,
    Pane,
    Report,
    Table,
    new_card,
    outline,
    prediction,
)
from mmrev.evaluation.detection_errors import (
    KINDS,
    ErrorSummary,
    ImageBoxes,
    ImageErrors,
    best_threshold,
    split_errors,
    summarise,
)

__all__ = ["DetectionPage"]

# Detections of an image that count, as in COCO.
MOST = 100
# Less sure masks are seldom shown, and many.
OUTLINED_FROM = 0.05
MEANINGS = {
    "classification": ("Cls", "on an object, but of another class"),
    "localisation": ("Loc", "right class, IoU 0.1 to 0.5"),
    "both": ("Both", "wrong class and IoU 0.1 to 0.5"),
    "duplicate": ("Dupe", "on an object that is found already"),
    "background": ("Bkg", "IoU up to 0.1 with every object"),
    "missed": ("Miss", "object not found, nor claimed by Cls or Loc"),
}


@dataclass(frozen=True)
class _Entry:
    card: Card
    size: tuple[int, int]  # width, height of the image
    boxes: ImageBoxes
    outlines: Sequence[str]  # of the objects, or none
    found_outlines: Sequence[str]  # of the surest detections, or none


class DetectionPage:
    """Collects images with boxes.

    Args:
        classes: their names.
        predicted: whether there are predictions.
    """

    def __init__(self, classes: Sequence[str], predicted: bool):
        self.classes = classes
        self.predicted = predicted
        self.entries: list[_Entry] = []

    def add(self, loaded: Mapping[str, Any], sample: BaseDataElement | None) -> None:
        """Add an image.

        Args:
            loaded: image and annotations, as `read_image` gives them.
            sample: the model's; its 100 surest detections count, as in COCO.

        Raises:
            UserError: the model predicts no boxes.
        """
        boxes, labels = _array(loaded["gt_bboxes"]), _array(loaded["gt_bboxes_labels"])
        boxes = boxes.reshape(-1, 4).astype(float)
        crowd = np.asarray(loaded.get("gt_ignore_flags", np.zeros(len(boxes))), bool)
        outlines = []
        if (masks := loaded.get("gt_masks")) is not None:
            outlines = [outline(mask) for mask in masks[~crowd].to_ndarray()]
        found, found_outlines = (np.empty((0, 4)), np.empty(0, int), np.empty(0)), []
        if sample is not None:
            instances = prediction(sample, "pred_instances")
            best = np.argsort(-_array(instances.scores), kind="stable")[:MOST]
            columns = instances.bboxes, instances.labels, instances.scores
            found = tuple(_array(column)[best] for column in columns)
            if "masks" in instances:
                sure = best[found[2] >= OUTLINED_FROM]
                found_outlines = [outline(_array(instances.masks[i])) for i in sure]
        image = ImageBoxes(
            *found, boxes[~crowd], labels[~crowd], boxes[crowd], labels[crowd]
        )
        size = loaded["img"].shape[1::-1]
        entry = _Entry(new_card(loaded), size, image, outlines, found_outlines)
        self.entries.append(entry)

    def report(self) -> Report:
        """Figures, tables, and the images, those with the lowest F1 first."""
        images = [entry.boxes for entry in self.entries]
        objects = sum(len(image.objects) for image in images)
        crowds = sum(len(image.crowds) for image in images)
        empty = sum(not len(image.objects) for image in images)
        facts = [("objects", str(objects)), ("images without", str(empty))]
        facts += [("crowds, ignored", str(crowds))] if crowds else []
        if not self.predicted:
            for entry in self.entries:
                number = len(entry.boxes.objects)
                entry.card.note = f"{number} object{'s' * (number != 1)}"
                entry.card.panes = [Pane("ground truth", self._objects(entry, None))]
            table = self._class_table(images)
            occur = f"{len(table.rows)} of {len(self.classes)}"
            facts.append(("classes that occur", occur))
            return Report(facts, [table], [entry.card for entry in self.entries])
        threshold = best_threshold(images)
        errors = [split_errors(image.above(threshold)) for image in images]
        summary = summarise(images)
        for entry, error in zip(self.entries, errors, strict=True):
            self._compare(entry, error, threshold)
        shown = {kind: sum(error.counts[kind] for error in errors) for kind in KINDS}
        found = sum(int((error.states == "found").sum()) for error in errors)
        total = objects + sum(int((e.kinds != "ignored").sum()) for e in errors)
        facts = [
            ("AP50 of these images", f"{summary.ap:.3f}"),
            ("best F1", f"{2 * found / max(total, 1):.3f}"),
            ("at a score of", f"{threshold:.2f}"),
            *facts,
        ]
        order = sorted(
            range(len(errors)),
            key=lambda i: (errors[i].f1, -sum(errors[i].counts.values())),
        )
        cards = [self.entries[i].card for i in order]
        return Report(facts, [_error_table(summary, shown)], cards, MEANINGS)

    def _compare(self, entry: _Entry, errors: ImageErrors, threshold: float) -> None:
        card, image = entry.card, entry.boxes.above(threshold)
        counts = errors.counts
        card.kinds = [kind for kind in KINDS if counts[kind]]
        card.score = 1 - errors.f1
        parts = [
            f"{int((errors.states == 'found').sum())} of {len(errors.states)} found"
        ]
        parts += [f"{counts[kind]} {MEANINGS[kind][0]}" for kind in card.kinds]
        card.note = ", ".join(parts)
        marks = []
        for i, kind in enumerate(errors.kinds.tolist()):
            name = self._name(image.labels[i])
            title = f"{name}, score {image.scores[i]:.3f}: {kind}"
            if kind == "classification":
                meant = image.object_labels[errors.meant[i]]
                title += f", should be {self._name(meant)}"
            tag = f"{MEANINGS[kind][0]} " if kind in MEANINGS else ""
            text = f"{tag}{name} {image.scores[i]:.2f}"
            path = entry.found_outlines[i] if i < len(entry.found_outlines) else ""
            marks.append(_mark(image.boxes[i], entry.size, kind, text, title, path))
        # The surest on top.
        card.panes = [
            Pane("ground truth", self._objects(entry, errors)),
            Pane("predictions", marks[::-1]),
        ]

    def _objects(self, entry: _Entry, errors: ImageErrors | None) -> list[Mark]:
        image, marks = entry.boxes, []
        for i, label in enumerate(image.object_labels):
            state = "object" if errors is None else str(errors.states[i])
            path = entry.outlines[i] if entry.outlines else ""
            name = self._name(label)
            tag = f"{MEANINGS[state][0]} " if state in MEANINGS else ""
            title = name if errors is None else f"{name}: {state}"
            marks.append(
                _mark(image.objects[i], entry.size, state, tag + name, title, path)
            )
        for box, label in zip(image.crowds, image.crowd_labels, strict=True):
            text = f"{self._name(label)} (ignored)"
            marks.append(_mark(box, entry.size, "ignored", text, f"crowd: {text}"))
        return marks

    def _class_table(self, images: Sequence[ImageBoxes]) -> Table:
        objects = Counter(label for image in images for label in image.object_labels)
        appearing = Counter(
            label for image in images for label in set(image.object_labels.tolist())
        )
        most = max(objects.values(), default=1)
        rows = [
            (self._name(label), (str(number), number / most), str(appearing[label]))
            for label, number in objects.most_common()
        ]
        return Table("Objects of each class", ("class", "objects", "in images"), rows)

    def _name(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else f"class {label}"


def _error_table(summary: ErrorSummary, shown: Mapping[str, int]) -> Table:
    most = max(summary.gains.values()) or 1
    rows = [
        (
            MEANINGS[kind][0],
            (f"{summary.gains[kind]:.3f}", summary.gains[kind] / most),
            str(shown[kind]),
            str(summary.counts[kind]),
            MEANINGS[kind][1],
        )
        for kind in sorted(KINDS, key=lambda kind: -summary.gains[kind])
    ]
    return Table(
        "Kinds of errors (TIDE). dAP50: what AP50 gains if this kind alone is fixed. "
        "Shown: from the score of the best F1 on, as in the images below; of all: "
        f"among the {MOST} surest of each image.",
        ("error", "dAP50", "shown", "of all", "meaning"),
        rows,
    )


def _mark(
    box: np.ndarray,
    size: tuple[int, int],
    kind: str,
    text: str,
    title: str,
    path: str = "",
) -> Mark:
    width, height = size
    left, top, right, bottom = box / [width, height, width, height] * 100
    return Mark(left, top, right - left, bottom - top, kind, text, title, path)


def _array(values: Any) -> np.ndarray:
    """Of a tensor, boxes of mmdet, or an array."""
    values = getattr(values, "tensor", values)
    return values.numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
