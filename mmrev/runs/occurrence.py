"""Which classes of a training set never occur in it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MMLogger

from mmrev.datasets.annotations import listed
from mmrev.datasets.checked import place_of
from mmrev.datasets.class_counts import ClassCounts, count_classes
from mmrev.errors import UserError

__all__ = ["ABSENT_CLASSES", "check_occurrence"]

# What a config's absent_classes may be: what happens where there are some.
ABSENT_CLASSES = ("refused", "said")
_REMEDY = (
    "annotate them, or leave them out of metainfo.classes and num_classes; if it is "
    "meant to be so, set absent_classes='said' in the config."
)


def check_occurrence(datasets: Sequence[BaseDataset], absent_classes: str) -> None:
    """Look for classes that never occur in the training set.

    Args:
        datasets: that training draws from.
        absent_classes: 'refused', or 'said' in the log.

    Raises:
        UserError: names the classes.
    """
    # An explicit part of a data set is a trial of something else.
    if any(getattr(one, "_indices", None) is not None for one in datasets):
        absent_classes = "said"
    found = _count(datasets)
    if not found or None in found:
        return
    counts = Counter()
    for one in found:
        counts.update(one.counts)
    absent = [name for name, count in counts.items() if not count]
    if not absent:
        return
    where = listed(map(place_of, datasets)) + _looked_at(found)
    text = f"{where}: there is nothing of {_number(absent)} ({listed(absent)})"
    # Of a part of the entries that is certain only where it is plain.
    whole = all(one.seen == one.total for one in found)
    certain = whole or len(absent) >= len(counts) - 1
    if absent_classes == "refused" and certain:
        raise UserError(f"{text}; {_REMEDY}")
    MMLogger.get_current_instance().warning(f"{text}.")


def _count(datasets: Sequence[BaseDataset]) -> list[ClassCounts | None]:
    """What the first process counts, for all."""
    shared: list[Any] = [None]
    if is_main_process():
        # An error is for all processes: others would wait for this one.
        try:
            shared = [[count_classes(one) for one in datasets]]
        except UserError as error:
            shared = [error]
    broadcast_object_list(shared)
    if isinstance(shared[0], UserError):
        raise shared[0]
    return shared[0]


def _looked_at(found: Sequence[ClassCounts]) -> str:
    """What was looked at, and what of it does not count."""
    parts = []
    seen, total = (sum(getattr(one, key) for one in found) for key in ("seen", "total"))
    if total:
        number = "all" if seen == total else f"{seen} of"
        parts.append(f"{number} {total} {found[0].unit}")
        share = sum(one.ignored * one.seen for one in found) / seen
        if share:
            parts.append(f"{share:.1%} of the pixels are ignored")
            parts.append("where 255 draws a class, write the class's number instead")
    if left_out := sum(one.left_out for one in found):
        parts.append(f"{left_out} objects are left out")
    return f" ({'; '.join(parts)})" if parts else ""


def _number(names: Sequence[str]) -> str:
    return f"{len(names)} class{'es' if len(names) > 1 else ''}"
