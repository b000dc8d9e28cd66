"""Classes of annotations in COCO's form: their ids, numbers, and cells of a table."""

from collections.abc import Hashable, Sequence

from mmrev.errors import shortened

__all__ = ["category_ids", "cell", "numbered", "refuse_repeated"]


def category_ids(
    metric: str, categories: Sequence[dict], classes: Sequence[str]
) -> list[Hashable]:
    """Category ids by label, as mmdet's data sets number them: in the file's order.

    Args:
        metric: its name, for errors.
        categories: of the annotations.
        classes: names of the data set's classes, in any order.

    Raises:
        ValueError: the annotations lack a class.
    """
    names = {one["name"] for one in categories}
    if unknown := [name for name in classes if name not in names]:
        raise ValueError(
            f"{metric}: expected the data set's classes among the categories of the "
            f"annotations, which lack {shortened(unknown)}."
        )
    return [one["id"] for one in categories if one["name"] in classes]


def numbered(entries: Sequence[dict], what: str) -> dict[Hashable, int]:
    """Number ids from 1, in ascending order, which decides between equal scores.

    Args:
        entries: with an ``id`` each.
        what: metric and kind of the entries, for errors.

    Raises:
        ValueError: an id occurs twice.
    """
    refuse_repeated(entries, what)
    ids = sorted(entry["id"] for entry in entries)
    return {one: number for number, one in enumerate(ids, 1)}


def refuse_repeated(entries: Sequence[dict], what: str) -> None:
    """Raise a ValueError that names an id which occurs twice; as of `numbered`."""
    seen = set()
    for entry in entries:
        if entry["id"] in seen:
            raise ValueError(
                f"{what} id {entry['id']} occurs twice in the annotations; give every "
                "one its own."
            )
        seen.add(entry["id"])


def cell(value: float) -> str:
    """A figure in a table, a dash where it is negative or no number."""
    return f"{value:.3f}" if value >= 0 else "-"
