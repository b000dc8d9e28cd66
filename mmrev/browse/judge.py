"""What is at fault in the data of a config, by what a scan of it found."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mmrev.browse.findings import Example, Findings, Split, hashable
from mmrev.browse.scan import ImageScan, Part
from mmrev.datasets.annotations import listed
from mmrev.datasets.checked import contents_of
from mmrev.datasets.class_counts import count_classes

__all__ = ["judge"]


def judge(parts: Sequence[Part], cfg: Config, findings: Findings) -> list[Split]:
    """Add what is at fault.

    Args:
        parts: the data sets of all splits, scanned.
        cfg: whose policies say what would end a run.
        findings: are added to.

    Returns:
        What each split holds.
    """
    for part in parts:
        _judge_part(part, cfg, findings)
    splits = _splits_of(parts, cfg, findings)
    _compare_classes(parts, findings)
    _compare_images(parts, findings)
    return splits


def _judge_part(part: Part, cfg: Config, findings: Findings) -> None:
    """What is at fault in a data set by itself."""
    split, scans, dataset = ", ".join(part.splits), part.scans, part.dataset
    number = _number_of_classes(dataset, cfg)

    def of(found: Iterable[tuple[ImageScan, str]]) -> list[Example]:
        return [Example(s.path, text, (s.part, s.index)) for s, text in found]

    unreadable = [
        Example(s.fault[0], f"({s.fault[1]})", (s.part, s.index))
        for s in scans
        if s.fault
    ]
    allowed = part.splits == ["train"] and (
        len(unreadable) <= cfg.get("unreadable_images", 0) * len(scans)
    )
    level = "remark" if allowed else "fault"
    findings.add("unreadable", split, "cannot be read", unreadable, level=level)
    level = "remark" if cfg.get("other_sizes") == "said" else "fault"
    sizes = of((s, f"stated {s.other_size}") for s in scans if s.other_size)
    findings.add("size", split, "another size than annotated", sizes, level=level)
    wrong = of((s, text) for s in scans for text in s.wrong)
    wrong = [Example("", one.text, one.place) for one in wrong]
    findings.add("masks", split, "label maps or masks at fault", wrong)
    outside = [
        (s, f"label {label}")
        for s in scans
        for label in s.labels or ()
        if number and not 0 <= label < number
    ]
    text = f"expected labels of 0..{number - 1}"
    findings.add("labels", split, text, of(outside))
    mirrored = of((s, f"orientation {s.mirrored}") for s in scans if s.mirrored)
    text = "EXIF turns these in place; their annotations must be of the turned image"
    findings.add("turned", split, text, mirrored, level="remark")
    empty = of((s, "") for s in scans if s.labels == [])
    findings.add("empty", split, "without objects", empty, level="remark")
    if contents := contents_of(dataset):
        _judge_annotations(part, contents.odd, contents.remarks, findings)


def _number_of_classes(dataset: BaseDataset, cfg: Config) -> int:
    """Of the data set; where it names none, of a classifier; 0 if nobody says."""
    head = cfg.model.get("head") or {}
    classes = dataset.metainfo.get("classes")
    return len(classes) if classes else head.get("num_classes", 0)


def _judge_twice(split: str, scans: Sequence[ImageScan], findings: Findings) -> None:
    first: dict[str, ImageScan] = {}
    twice = []
    for one in scans:
        other = first.setdefault(one.sha256, one) if one.sha256 else one
        if other is not one:
            text = f"= {other.path}"
            twice.append(Example(one.path, text, (one.part, one.index)))
    findings.add("twice", split, "the same content", twice, level="remark")


def _judge_annotations(
    part: Part,
    odd: Mapping[str, Sequence[dict]],
    remarks: Sequence[str],
    findings: Findings,
) -> None:
    split = ", ".join(part.splits)
    places = {s.image_id: s for s in part.scans}
    for reason, entries in odd.items():
        examples = []
        for entry in entries:
            one = places.get(hashable(entry.get("image_id")))
            place = one and (one.part, one.index)
            text = f"id {entry.get('id')}, box {entry.get('bbox')}"
            examples.append(Example(one.path if one else "", text, place, entry))
        # Said of so many that they are likely corners.
        many = any(reason in remark and "are they" in remark for remark in remarks)
        level = "fault" if many else "remark"
        findings.add("boxes", split, f"objects {reason}", examples, level=level)
    for ids, what in (
        (getattr(part.dataset, "cat_ids", []), "categories"),
        ([s.image_id for s in part.scans], "images"),
    ):
        count = sum(not _ascends(one, other) for one, other in pairwise(ids))
        text = f"ids of {what} do not ascend; other tools may number them otherwise"
        findings.add("order", split, text, count=count, level="remark")


def _splits_of(parts: Sequence[Part], cfg: Config, findings: Findings) -> list[Split]:
    """What each split holds; and classes that are absent, or differ."""
    together: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        together[", ".join(part.splits)].append(part)
    found = []
    for name, own in together.items():
        counts: dict[str, int] = {}
        unit = ""
        for part in own:
            more, unit = _histogram(part)
            for key, count in more.items():
                counts[key] = counts.get(key, 0) + count
        scans = [one for part in own for one in part.scans]
        _judge_twice(name, scans, findings)
        facts = {
            "unreadable": sum(one.fault is not None for one in scans),
            "without objects": sum(one.labels == [] for one in scans),
        }
        listed_images = [contents_of(p.dataset) for p in own]
        if all(listed_images):
            left = sum(c.images for c in listed_images) - len(scans)
            facts["left out by filter_cfg or indices"] = left
        images = sum(len(part.dataset) for part in own)
        found.append(Split(name, images, counts, unit, facts))
        absent = [Example(text=key) for key, count in counts.items() if not count]
        refused = name == "train" and cfg.get("absent_classes", "refused") == "refused"
        whole = all(getattr(part.dataset, "_indices", None) is None for part in own)
        level = "fault" if refused and whole else "remark"
        findings.add("absent", name, f"classes without {unit}", absent, level=level)
    return found


def _histogram(part: Part) -> tuple[dict[str, int], str]:
    """How often each class occurs, and of what."""
    classes = part.dataset.metainfo.get("classes") or ()
    if contents := contents_of(part.dataset):
        named = contents.categories.items()
        return {name: contents.counts[key] for key, name in named}, "objects"
    if part.pixels is not None:
        return dict(zip(classes, part.pixels.tolist(), strict=False)), "pixels"
    labels = [one.labels for one in part.scans if one.labels is not None]
    if labels:
        counts = Counter(label for found in labels for label in found)
        kind = "images" if "gt_label" in part.dataset.get_data_info(0) else "objects"
        if not classes:
            return {f"label {one}": counts[one] for one in sorted(counts)}, kind
        return {name: counts[label] for label, name in enumerate(classes)}, kind
    if not part.scans and len(part.dataset) and (found := count_classes(part.dataset)):
        return found.counts, found.unit
    return {}, ""


def _compare_classes(parts: Sequence[Part], findings: Findings) -> None:
    """Splits in which a label is another class."""
    named = [part for part in parts if part.dataset.metainfo.get("classes")]
    for other in named[1:]:
        one = named[0]
        pair = [list(part.dataset.metainfo["classes"]) for part in (one, other)]
        if pair[0] != pair[1]:
            apart = sorted(set(pair[0]) ^ set(pair[1]))
            text = "a label is another class in each"
            text += f"; in one of them alone: {listed(apart)}" if apart else ""
            names = " | ".join(", ".join(part.splits) for part in (one, other))
            findings.add("classes", names, text, count=1)


def _compare_images(parts: Sequence[Part], findings: Findings) -> None:
    """Images that are in two splits."""
    found: dict[str, list[tuple[str, ImageScan]]] = defaultdict(list)
    for part in parts:
        for one in part.scans:
            if one.sha256:
                found[one.sha256].append((", ".join(part.splits), one))
    pairs: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for places in found.values():
        first = dict(reversed(places))  # of each split
        names = list(first)[::-1]
        for number, name in enumerate(names):
            for other in names[number + 1 :]:
                one, same = first[name], first[other]
                example = Example(one.path, f"= {same.path}", (one.part, one.index))
                pairs[name, other].append(example)
    for (name, other), examples in pairs.items():
        level = "fault" if "train" in name or "train" in other else "remark"
        text = f"in {name} and in {other}"
        findings.add("shared", f"{name} | {other}", text, examples, level=level)


def _ascends(one: Any, other: Any) -> bool:
    try:
        return one < other
    except TypeError:
        return True
