"""Which classes of a training set never occur in it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MMLogger

from mmrev.datasets.annotations import listed
from mmrev.datasets.checked import contents_of, place_of
from mmrev.datasets.label_maps import count_labels
from mmrev.errors import UserError

__all__ = ["ABSENT_CLASSES", "check_occurrence"]

# What a config's absent_classes may be: what happens where there are some.
ABSENT_CLASSES = ("refused", "said")
_REMEDY = (
    "annotate them, or leave them out of metainfo.classes and num_classes; if it is "
    "meant to be so, set absent_classes='said' in the config."
)


class _Found(NamedTuple):
    """What was found, where, and whether all was looked at."""

    counts: dict[str, int]  # by class
    where: str
    whole: bool


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
    found = _objects(datasets) or _pixels(datasets)
    if found is None or all(found.counts.values()):
        return
    absent = [name for name, count in found.counts.items() if not count]
    text = f"{found.where}: there is nothing of {_number(absent)} ({listed(absent)})"
    # Of a part of the maps that is certain only where it is plain.
    certain = found.whole or len(absent) >= len(found.counts) - 1
    if absent_classes == "refused" and certain:
        raise UserError(f"{text}; {_REMEDY}")
    MMLogger.get_current_instance().warning(f"{text}.")


def _objects(datasets: Sequence[BaseDataset]) -> _Found | None:
    """Objects by class, of COCO's files."""
    contents = [contents_of(one) for one in datasets]
    if not contents or None in contents:
        return None
    counts: dict[str, int] = {}
    for one in contents:
        for key, name in one.categories.items():
            counts[name] = counts.get(name, 0) + one.counts[key]
    where = listed([one.ann_file for one in datasets])
    if left_out := sum(sum(one.left_out.values()) for one in contents):
        where += f" ({left_out} objects are left out)"
    return _Found(counts, where, True)


def _pixels(datasets: Sequence[BaseDataset]) -> _Found | None:
    """Pixels by class, of label maps, which the first process counts for all."""
    if not datasets or not all(hasattr(one, "reduce_zero_label") for one in datasets):
        return None
    shared: list[Any] = [None]
    if is_main_process():
        # An error is for all processes: others would wait for this one.
        try:
            counts = [count_labels(one) for one in datasets]
            shared = [None if None in counts else sum(counts[1:], counts[0])]
        except UserError as error:
            shared = [error]
    broadcast_object_list(shared)
    (labels,) = shared
    if isinstance(labels, UserError):
        raise labels
    if labels is None:
        return None
    counts = dict(zip(datasets[0].metainfo["classes"], labels.pixels, strict=True))
    whole = labels.maps == labels.total
    number = "all" if whole else f"{labels.maps} of"
    share = labels.ignored / max(labels.ignored + sum(labels.pixels), 1)
    where = (
        f"{listed([place_of(one) for one in datasets])} ({number} {labels.total} label "
        f"maps; {share:.1%} of the pixels are ignored"
    )
    if share:
        where += "; where 255 draws a class, write the class's number instead"
    return _Found(counts, f"{where})", whole)


def _number(names: Sequence[str]) -> str:
    return f"{len(names)} class{'es' if len(names) > 1 else ''}"
