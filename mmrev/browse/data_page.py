"""The report of ``tools/check_data.py`` as a page: tables, and the worst images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import BaseDataset

from mmrev.browse.findings import KINDS, Example, Finding, Findings, Split, summary
from mmrev.browse.page import Card, Mark, Pane, Report, Table, new_card, overlay
from mmrev.browse.segmentation import WRONG
from mmrev.datasets.label_maps import CheckLabelMap

__all__ = ["data_page"]

Place = tuple[int, int]
# Images shown of each finding.
_MOST = 6
_NOTHING = np.full((180, 320, 3), 119, np.uint8)  # of an image that cannot be read
_WITH_BOXES = ("annotations", "size", "boxes", "turned")
_SHOWN = [kind for kind in KINDS if kind not in ("data", "classes", "absent", "order")]


def data_page(
    datasets: Sequence[BaseDataset],
    places: Mapping[str, Place],
    splits: Sequence[Split],
    findings: Findings,
) -> Report:
    """What was found, with some images of each finding.

    Args:
        datasets: whose images were read.
        places: data set and number of images by their path.
        splits: what they hold.
        findings: what is to be said about it.
    """
    facts = [
        ("findings that end or distort a run", str(findings.faults)),
        ("other remarks", str(len(findings.all) - findings.faults)),
    ]
    rows = [
        (
            "yes" if one.level == "fault" else "",
            *(one.split, KINDS[one.kind][0], str(one.count), summary(one)),
        )
        for one in findings
    ]
    columns = ("ends or distorts", "split", "what", "count", "where")
    tables = [Table("Findings", columns, rows)] if rows else []
    for split in splits:
        facts.append((f"images of {split.name}", str(split.images)))
        more = ((f"{key}, {split.name}", n) for key, n in split.facts.items())
        facts += [(name, str(number)) for name, number in more if number]
        tables.append(_classes(split))
    cards = []
    for finding in findings:
        for example in finding.examples[:_MOST] if finding.kind in _SHOWN else ():
            place = example.place or places.get(example.path)
            cards.append(_card(datasets, place, finding, example))
    found = {kind for card in cards for kind in card.kinds}
    kinds = {kind: KINDS[kind] for kind in KINDS if kind in found}
    return Report(facts, [table for table in tables if table.rows], cards, kinds)


def _classes(split: Split) -> Table:
    total, most = sum(split.classes.values()), max(split.classes.values(), default=0)
    rows = [
        (
            name,
            (str(count), count / max(most, 1)),
            f"{100 * count / max(total, 1):.1f} %",
        )
        for name, count in sorted(split.classes.items(), key=lambda item: -item[1])
    ]
    caption = f"{split.unit.capitalize()} of each class, {split.name}"
    return Table(caption, ("class", split.unit, "share"), rows)


def _card(
    datasets: Sequence[BaseDataset],
    place: Place | None,
    finding: Finding,
    example: Example,
) -> Card:
    """An image with what is wrong in it, as far as it can be shown."""
    info, loaded = {}, {"img": _NOTHING, "img_path": example.path}
    if place is not None:
        dataset = datasets[place[0]]
        info = dataset.get_data_info(place[1])
        loaded |= {"img_path": example.path or info["img_path"]}
        loaded |= _loaded(dataset, dict(info))
    card = new_card(loaded)
    card.kinds = [finding.kind]
    what = "" if finding.kind in ("annotations", "masks") else f", {finding.text}"
    card.note = ": ".join(filter(None, (finding.split + what, example.text)))
    if loaded["img"] is _NOTHING:
        card.panes = [Pane("", names=[("nothing to show", 50, 50)])]
        return card
    size, marks, labels = loaded["img"].shape[1::-1], [], ""
    if finding.kind in _WITH_BOXES:
        boxes = [one["bbox"] for one in info.get("instances", ()) if "bbox" in one]
        marks = [_mark(box, size, "object", "") for box in boxes]
        entry = example.entry or {}
        if corners := _corners(entry.get("bbox")):
            marks.append(_mark(corners, size, "missed", f"id {entry.get('id')}"))
    if (found := loaded.get("gt_seg_map")) is not None and np.ndim(found) == 2:
        wrong = (found >= len(dataset.metainfo.get("classes") or ())) & (found != 255)
        labels = overlay(np.where(wrong, 0, 255), [WRONG])
    card.panes = [Pane(f"{size[0]} x {size[1]}", marks, labels)]
    return card


def _loaded(dataset: BaseDataset, results: dict[str, Any]) -> dict[str, Any]:
    """Image and label map, as far as they can be loaded."""
    for step in dataset.pipeline.transforms:
        is_map = isinstance(step, LoadAnnotations) and any(
            isinstance(one, CheckLabelMap) for one in dataset.pipeline.transforms
        )
        if isinstance(step, LoadImageFromFile) or is_map:
            try:
                results = step(results)
            # What is wrong is said already.
            except Exception:
                break
    return {key: results[key] for key in ("img", "gt_seg_map") if key in results}


def _corners(box: Any) -> list[float] | None:
    """Of a box of annotations, if it is one."""
    try:
        left, top, width, height = map(float, box)
    except (TypeError, ValueError):
        return None
    corners = [left, top, left + width, top + height]
    return corners if np.isfinite(corners).all() else None


def _mark(box: Sequence[float], size: tuple[int, int], kind: str, text: str) -> Mark:
    width, height = size
    left, top, right, bottom = np.asarray(box) / [width, height, width, height] * 100
    return Mark(left, top, right - left, bottom - top, kind, text, text)
