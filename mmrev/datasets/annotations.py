"""What a file of annotations in COCO's form must hold, checked before it is used.

Refused is what ends a run later, or is taken for something else in silence. What mmdet
leaves out by itself is counted and said. Fields are checked by the column, and entry by
entry only to name the first fault of a column that has one.
"""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from mmrev.errors import UserError

__all__ = ["Contents", "check_instances", "check_panoptic", "listed"]

_NUMBERS = {int, float}
_IDS = {int, float, str}
_BOX = "4 finite numbers x, y, width, height, the last two not negative"
_CROWD = "0 or 1"
_MENDED = "mend the file"
# Boxes that reach so far beyond their image, of all, are likely corners.
_MANY = 0.1


@dataclass(frozen=True)
class Contents:
    """What a data set takes from a file of annotations.

    Attributes:
        categories: names by id, of the data set's classes, in the file's order.
        counts: objects to be found of each, by id; crowds are none.
        left_out: objects that mmdet leaves out, by the reason.
        remarks: what is odd about the file without being wrong.
    """

    categories: dict[Hashable, str]
    counts: dict[Hashable, int]
    left_out: dict[str, int]
    remarks: tuple[str, ...]


class _Entries:
    """A list of a file, whose columns are checked.

    Args:
        path: of the file.
        entries: the list.
        name: names an entry by its position, as in ``annotations[3]``.

    Raises:
        UserError: it is no list of dicts.
    """

    def __init__(self, path: str, entries: Any, name: str | Callable[[int], str]):
        self.path = path
        self.name = name if callable(name) else lambda index: f"{name}[{index}]"
        if not isinstance(entries, list):
            raise UserError(
                f"{path}: field '{name}': expected a list, got {_shown(entries)}; "
                f"{_MENDED}."
            )
        self.entries = entries
        for index, kind in enumerate(map(type, entries)):
            if kind is not dict:
                raise UserError(
                    f"{path}: {self.name(index)}: expected a dict, got "
                    f"{_shown(entries[index])}; {_MENDED}."
                )

    def refuse(
        self, index: int, field: str, expected: str, remedy: str = _MENDED
    ) -> NoReturn:
        """Name an entry whose field is wrong."""
        entry = self.entries[index]
        number = f" (id {_shown(entry['id'])})" if "id" in entry else ""
        got = _shown(entry[field]) if field in entry else "no such field"
        raise UserError(
            f"{self.path}: {self.name(index)}{number}, field '{field}': expected "
            f"{expected}, got {got}; {remedy}."
        )

    def refuse_where(self, wrong: np.ndarray, *what: str) -> None:
        """Name the first entry that is wrong, if one is."""
        if wrong.any():
            self.refuse(int(wrong.argmax()), *what)

    def column(
        self, field: str, kinds: set[type], expected: str, default: Any = None
    ) -> list:
        """The values of a field, all of certain types."""
        values = [entry.get(field, default) for entry in self.entries]
        if not set(map(type, values)) <= kinds:
            wrong = (i for i, value in enumerate(values) if type(value) not in kinds)
            self.refuse(next(wrong), field, expected)
        return values

    def ids(self, owners: Sequence[Hashable] | None = None) -> list[Hashable]:
        """The entries' ids, none of which occurs twice (with one owner)."""
        ids = self.column("id", _IDS, "a number or a text")
        keys = ids if owners is None else list(zip(owners, ids, strict=True))
        if len(set(keys)) < len(keys):
            seen = set()
            for index, key in enumerate(keys):
                if key in seen:
                    self.refuse(index, "id", "an id that no other entry has")
                seen.add(key)
        return ids

    def numbers(self, field: str, expected: str, least: float = -np.inf) -> np.ndarray:
        """Finite numbers, at least `least`, float64."""
        values = np.array(self.column(field, _NUMBERS, expected), float)
        self.refuse_where(~(np.isfinite(values) & (values >= least)), field, expected)
        return values

    def boxes(self) -> np.ndarray:
        """Left, top, width, height, (N, 4) float64."""
        boxes = self.column("bbox", {list}, _BOX)
        lengths = np.fromiter(map(len, boxes), int, len(boxes))
        self.refuse_where(lengths != 4, "bbox", _BOX)
        if not set(map(type, chain.from_iterable(boxes))) <= _NUMBERS:
            wrong = (
                i for i, box in enumerate(boxes) if not set(map(type, box)) <= _NUMBERS
            )
            self.refuse(next(wrong), "bbox", _BOX)
        flat = np.fromiter(chain.from_iterable(boxes), float, 4 * len(boxes))
        boxes = flat.reshape(-1, 4)
        wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1)
        self.refuse_where(wrong, "bbox", _BOX)
        return boxes

    def crowds(self) -> np.ndarray:
        """Which entries are crowds, (N,) bool; none that does not say so."""
        values = self.column("iscrowd", {int, float, bool}, _CROWD, default=0)
        values = np.array(values, float)
        self.refuse_where((values != 0) & (values != 1), "iscrowd", _CROWD)
        return values == 1

    def known(self, field: str, ids: Iterable[Hashable], where: str) -> np.ndarray:
        """Which entries refer to an id of a list of the file, (N,) bool.

        Raises:
            UserError: all do not, or one would if a number were not written as a text.
        """
        ids = set(ids)
        values = self.column(field, _IDS, f"an id of '{where}'")
        found = np.fromiter((value in ids for value in values), bool, len(values))
        if not found.all():
            texts = {str(one) for one in ids}
            for index in np.flatnonzero(~found):
                if str(values[index]) in texts or not found.any():
                    kind = "text" if type(next(iter(ids), 0)) is str else "number"
                    self.refuse(index, field, f"the id of one of '{where}', a {kind}")
        return found


def check_instances(
    content: Any, path: str, classes: Sequence[str], masks: str = "not read"
) -> Contents:
    """Check boxes and masks, as mmdet's `CocoDataset` reads them.

    Args:
        content: what the file holds. It may lack annotations, as that of a test set.
        path: of the file, for messages.
        classes: of the data set.
        masks: 'read' or 'not read' by the run.

    Returns:
        What the data set takes from the file.

    Raises:
        UserError: names file, entry and field, what was expected and received.
    """
    _check_fields(content, path, "images", "categories")
    names, remarks = _check_categories(content, path, classes)
    images = _Entries(path, content["images"], "images")
    sizes = _check_images(images)
    objects = _Entries(path, content.get("annotations", []), "annotations")
    objects.ids()
    # Two looks, since one of a category that is not there is a mistake (numbers that
    # begin at 0, often), and of an image that is not, a smaller set's leftover.
    categories = [one["id"] for one in content["categories"]]
    of_category = objects.known("category_id", categories, "categories")
    objects.refuse_where(~of_category, "category_id", "the id of one of 'categories'")
    of_image = objects.known("image_id", sizes, "images")
    boxes, crowds = objects.boxes(), objects.crowds()
    areas = objects.numbers("area", "a finite number of pixels")
    ignored = np.array([bool(one.get("ignore")) for one in objects.entries], bool)
    extents = _extents(objects, sizes)
    ends = boxes[:, :2] + boxes[:, 2:]
    inside = np.minimum(ends, extents) - np.maximum(boxes[:, :2], 0)
    reasons = {
        "of images that the file does not list": ~of_image,
        "marked as ignored": ignored,
        "narrower than a pixel or of area 0": (
            (boxes[:, 2:] < 1).any(axis=1) | (areas <= 0)
        ),
        "outside of their image": (inside <= 0).any(axis=1),
    }
    kept, left_out = _sort_out(reasons, len(boxes))
    beyond = (ends[kept] > extents[kept] + 1).any(axis=1)
    if len(beyond) and beyond.mean() > _MANY:
        remarks += (
            f"{beyond.sum()} of {len(beyond)} boxes reach beyond their image; are they "
            "x, y, width, height, and of these images?",
        )
    if masks == "read":
        _check_masks(objects, sizes, kept)
    counted = kept & ~crowds
    return _contents(objects, counted, names, left_out, remarks)


def check_panoptic(content: Any, path: str, classes: Sequence[str]) -> Contents:
    """Check panoptic segments, as mmdet's `CocoPanopticDataset` reads them.

    Args:
        content: what the file holds. It may lack annotations, as that of a test set.
        path: of the file, for messages.
        classes: of the data set, things and stuff.

    Returns:
        What the data set takes from the file.

    Raises:
        UserError: names file, entry and field, what was expected and received.
    """
    _check_fields(content, path, "images", "categories")
    names, remarks = _check_categories(content, path, classes)
    categories = _Entries(path, content["categories"], "categories")
    things = categories.column("isthing", {int, bool}, _CROWD)
    categories.refuse_where(
        ~np.isin(np.array(things, int), (0, 1)), "isthing", "0 or 1"
    )
    sizes = _check_images(_Entries(path, content["images"], "images"))
    maps = _Entries(path, content.get("annotations", []), "annotations")
    maps.known("image_id", sizes, "images")
    maps.column("file_name", {str}, "the name of a file")
    lists = maps.column("segments_info", {list}, "a list of segments")
    owners = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    first = np.searchsorted(owners, np.arange(len(lists)))

    def name(index: int) -> str:
        owner = owners[index]
        return f"annotations[{owner}].segments_info[{index - first[owner]}]"

    segments = _Entries(path, list(chain.from_iterable(lists)), name)
    segments.ids(owners.tolist())
    expected = "the id of a category that is one of the data set's classes"
    known = segments.known("category_id", names, "categories")
    segments.refuse_where(~known, "category_id", expected)
    boxes, crowds = segments.boxes(), segments.crowds()
    areas = segments.numbers("area", "a finite number of pixels")
    small = (boxes[:, 2:] < 1).any(axis=1) | (areas <= 0)
    reasons = {"narrower than a pixel or of area 0": small}
    kept, left_out = _sort_out(reasons, len(boxes))
    return _contents(segments, kept & ~crowds, names, left_out, remarks)


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first of many names."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def _check_fields(content: Any, path: str, *fields: str) -> None:
    expected = "expected a dict with 'images', 'annotations' and 'categories'"
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: {expected}, got {_shown(content)}; {_MENDED}.")
    for field in fields:
        if field not in content:
            found = listed(content) or "nothing"
            raise UserError(f"{path}: {expected}, got one of {found}; {_MENDED}.")


def _check_categories(
    content: Mapping, path: str, classes: Sequence[str]
) -> tuple[dict[Hashable, str], tuple[str, ...]]:
    """Names by id of the data set's classes, and what is odd about them."""
    categories = _Entries(path, content["categories"], "categories")
    ids = categories.ids()
    names = categories.column("name", {str}, "the name of a class")
    key = "metainfo=dict(classes=(...)) of the data set"
    if isinstance(classes, str):
        raise UserError(f"{key}: expected a tuple, got {classes!r}; write a comma.")
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        raise UserError(f"{key}: '{twice[0]}' occurs twice; give every class its name.")
    if lacking := [name for name in classes if name not in set(names)]:
        raise UserError(
            f"{path}: expected the data set's classes among the categories, which lack "
            f"{listed(lacking)}; set {key} to what the file has ({listed(names, 12)}), "
            "and num_classes of the model's heads to their number."
        )
    wanted = set(classes)
    chosen = {one: name for one, name in zip(ids, names, strict=True) if name in wanted}
    if len(chosen) > len(classes):
        seen = set()
        for index, name in enumerate(names):
            if name in seen and name in wanted:
                remedy = "give each class one category, or rename the one that is none"
                categories.refuse(
                    index, "name", "a name that no other category has", remedy
                )
            seen.add(name)
    if list(chosen.values()) == list(classes):
        return chosen, ()
    # mmdet numbers the labels in the file's order, and names them in the config's.
    return chosen, (
        f"its classes are ordered {listed(chosen.values())}, the data set's "
        f"{listed(classes)}; pictures and checkpoints will name them wrongly. Set "
        f"{key} in the file's order.",
    )


def _check_images(images: _Entries) -> dict[Hashable, tuple[float, float]]:
    """Width and height by id."""
    if not images.entries:
        raise UserError(f"{images.path}: it lists no images; {_MENDED}.")
    ids = images.ids()
    images.column("file_name", {str}, "the name of a file")
    sizes = [
        images.numbers(field, "a number of pixels", least=1).tolist()
        for field in ("width", "height")
    ]
    return dict(zip(ids, zip(*sizes, strict=True), strict=True))


def _extents(objects: _Entries, sizes: Mapping) -> np.ndarray:
    """Width and height of each object's image, (N, 2); 0 where there is none."""
    nowhere = (0, 0)
    found = (sizes.get(one["image_id"], nowhere) for one in objects.entries)
    flat = np.fromiter(chain.from_iterable(found), float, 2 * len(objects.entries))
    return flat.reshape(-1, 2)


def _check_masks(objects: _Entries, sizes: Mapping, kept: np.ndarray) -> None:
    for index in np.flatnonzero(kept).tolist():
        entry = objects.entries[index]
        mask = entry.get("segmentation")
        width, height = sizes[entry["image_id"]]
        if isinstance(mask, dict):
            expected = (
                f"run lengths with 'counts' and 'size' [{height:g}, {width:g}], the "
                "height and width of its image"
            )
            sound = isinstance(mask.get("counts"), list | str) and (
                mask.get("size") == [height, width]
            )
        else:
            expected = "polygons, lists of x and y in turn (masks are read)"
            sound = isinstance(mask, list) and mask and all(map(_is_polygon, mask))
        if not sound:
            objects.refuse(index, "segmentation", expected)


def _is_polygon(points: Any) -> bool:
    # Of fewer than three points mmdet takes none.
    if not isinstance(points, list) or len(points) % 2:
        return False
    return set(map(type, points)) <= _NUMBERS


def _sort_out(
    reasons: Mapping[str, np.ndarray], number: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Which objects stay, and how many leave for which (first) reason."""
    kept, left_out = np.ones(number, bool), {}
    for reason, applies in reasons.items():
        if count := int((kept & applies).sum()):
            left_out[reason] = count
        kept &= ~applies
    return kept, left_out


def _contents(
    objects: _Entries,
    counted: np.ndarray,
    names: dict[Hashable, str],
    left_out: dict[str, int],
    remarks: tuple[str, ...],
) -> Contents:
    kinds = Counter(
        objects.entries[index]["category_id"] for index in np.flatnonzero(counted)
    )
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        total = len(objects.entries)
        remarks += (
            f"{sum(left_out.values())} of {total} objects are left out: {reasons}.",
        )
    counts = {one: kinds.get(one, 0) for one in names}
    return Contents(names, counts, left_out, remarks)


def _shown(value: Any) -> str:
    """A value as it stands in the file, cut short."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
