"""What a look at all files of a data set finds: kinds, and where they were found."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KINDS", "Example", "Finding", "Findings", "Split", "hashable", "summary"]

# Kinds of findings: short name, what it means. The order is the report's.
KINDS = {
    "data": ("no data", "a data set that is not there or cannot be used"),
    "annotations": ("annotations", "entries of annotations that are at fault"),
    "unreadable": ("unreadable", "images or label maps that cannot be read"),
    "size": ("size", "images of another size than annotated"),
    "masks": ("masks", "label maps and masks of other sizes or values"),
    "labels": ("labels", "labels outside of the classes"),
    "classes": ("classes", "splits whose classes differ"),
    "shared": ("in two splits", "images in two splits, by content"),
    "absent": ("no objects", "classes that never occur"),
    "boxes": ("boxes", "boxes outside of their image or of no area"),
    "twice": ("twice", "images twice in one split, by content"),
    "turned": ("turned", "images that EXIF turns in place"),
    "order": ("order", "ids that are not in order"),
    "empty": ("empty", "images without objects"),
}


@dataclass(frozen=True)
class Example:
    """One place of a finding.

    Attributes:
        path: of the image; empty where there is none.
        text: what was found there.
        place: data set and number of the image in it, if it is one that is listed.
        entry: of the annotations.
    """

    path: str = ""
    text: str = ""
    place: tuple[int, int] | None = None
    entry: dict[str, Any] | None = None


@dataclass
class Finding:
    """One kind of finding in one split.

    Attributes:
        kind: of `KINDS`.
        level: 'fault', which ends or distorts a run, or 'remark'.
        split: as "train"; two splits where it is between these.
        text: in one line.
        count: how often.
        examples: all of them, where they can be named.
    """

    kind: str
    level: str
    split: str
    text: str
    count: int
    examples: list[Example] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All that it says."""
        named = [{"image": one.path, "text": one.text} for one in self.examples]
        return {
            **{"kind": self.kind, "level": self.level, "split": self.split},
            **{"text": self.text, "count": self.count, "examples": named},
        }


@dataclass
class Split:
    """What a split holds.

    Attributes:
        name: as "train"; "val, test" if these are the same.
        images: how many.
        classes: objects, pixels or images of each, by name.
        unit: which of these.
        facts: name and value of other figures.
    """

    name: str
    images: int
    classes: dict[str, int]
    unit: str
    facts: dict[str, int]


class Findings:
    """Collects findings."""

    def __init__(self) -> None:
        self.all: list[Finding] = []

    def add(
        self,
        kind: str,
        split: str,
        text: str,
        examples: list[Example] | None = None,
        count: int | None = None,
        level: str = "fault",
    ) -> None:
        """Add one; `count` is the number of examples where it is not given.

        Nothing is added where there is nothing to count.
        """
        examples = examples or []
        count = len(examples) if count is None else count
        if count:
            self.all.append(Finding(kind, level, split, text, count, examples))

    def __iter__(self) -> Iterator[Finding]:
        """Faults first, by kind."""
        order = list(KINDS)
        return iter(
            sorted(
                self.all,
                key=lambda one: (one.level != "fault", order.index(one.kind)),
            )
        )

    @property
    def faults(self) -> int:
        """How many findings end or distort a run."""
        return sum(one.level == "fault" for one in self.all)


def summary(finding: Finding, most: int = 3) -> str:
    """A finding in one line, with the first examples."""
    if finding.kind == "annotations":  # which names its first
        more = finding.count - 1
        return f"{finding.text} {more} more such entries." if more else finding.text
    named = [" ".join(filter(None, (e.path, e.text))) for e in finding.examples[:most]]
    if not named:
        return finding.text
    if more := len(finding.examples) - len(named):
        named.append(f"{more} more")
    return f"{finding.text}: {'; '.join(one.rstrip('.') for one in named)}"


def hashable(value: Any) -> Any:
    """A value of a file as a key; None where it can be none."""
    return None if isinstance(value, list | dict) else value
