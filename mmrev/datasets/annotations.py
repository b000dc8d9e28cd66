"""What a file of annotations in COCO's form must hold, checked before it is used.

Refused is what ends a run later, or is taken for something else in silence. What mmdet
leaves out by itself is counted and said. Fields are checked by the column, and entry by
entry only to name the first fault of a column that has one.
"""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from mmrev.errors import UserError

__all__ = [
    "Contents",
    "EntryError",
    "check_instances",
    "check_panoptic",
    "collect_faults",
    "listed",
]

_NUMBERS = {int, float}
_IDS = {int, float, str}
_BOX = "4 finite numbers x, y, width, height, the last two not negative"
_CROWD = "0 or 1"
_MENDED = "mend the file"
# Boxes that reach so far beyond their image, of all, are likely corners.
_MANY = 0.1
_BEYOND = "reach beyond their image"


@dataclass(frozen=True)
class Contents:
    """What a data set takes from a file of annotations.

    Attributes:
        categories: names by id, of the data set's classes, in the file's order.
        counts: objects to be found of each, by id; crowds are none.
        left_out: objects that mmdet leaves out, by the reason.
        remarks: what is odd about the file without being wrong.
        images: how many it lists.
        odd: objects that are left out, or reach beyond their image, by the reason.
    """

    categories: dict[Hashable, str]
    counts: dict[Hashable, int]
    left_out: dict[str, int]
    remarks: tuple[str, ...]
    images: int
    odd: dict[str, list[dict]] = field(repr=False)


class EntryError(UserError):
    """Entries of one list are wrong in one way; the message names the first.

    Attributes:
        where: name of the list.
        entries: all of them.
        what: field and what was expected.
    """

    def __init__(self, message: str, where: str, entries: list, what: str):
        super().__init__(message)
        self.where, self.entries, self.what = where, entries, what


class _Entries:
    """A list of a file, whose columns are checked.

    Args:
        path: of the file.
        entries: the list.
        where: its name.
        name: names an entry by its position; default as in ``annotations[3]``.

    Raises:
        UserError: it is no list of dicts.
    """

    def __init__(
        self,
        path: str,
        entries: Any,
        where: str,
        name: Callable[[int], str] | None = None,
    ):
        self.path = path
        self.where = where
        self.name = name or (lambda index: f"{where}[{index}]")
        if not isinstance(entries, list):
            raise UserError(
                f"{path}: field '{where}': expected a list, got {_shown(entries)}; "
                f"{_MENDED}."
            )
        self.entries = entries
        if wrong := [i for i, one in enumerate(entries) if type(one) is not dict]:
            raise EntryError(
                f"{path}: {self.name(wrong[0])}: expected a dict, got "
                f"{_shown(entries[wrong[0]])}; {_MENDED}.",
                where,
                [entries[index] for index in wrong],
                "expected a dict",
            )

    def refuse(
        self, indices: Iterable[int], field: str, expected: str, remedy: str = _MENDED
    ) -> None:
        """Refuse entries whose field is wrong, if there are any.

        Raises:
            EntryError: names the first.
        """
        indices = list(indices)
        if not indices:
            return
        entry = self.entries[indices[0]]
        number = f" (id {_shown(entry['id'])})" if "id" in entry else ""
        got = _shown(entry[field]) if field in entry else "no such field"
        raise EntryError(
            f"{self.path}: {self.name(indices[0])}{number}, field '{field}': expected "
            f"{expected}, got {got}; {remedy}.",
            self.where,
            [self.entries[index] for index in indices],
            f"field '{field}': expected {expected}",
        )

    def refuse_where(self, wrong: np.ndarray, *what: str) -> None:
        """Refuse the entries that are wrong, if some are."""
        self.refuse(np.flatnonzero(wrong), *what)

    def column(
        self, field: str, kinds: set[type], expected: str, default: Any = None
    ) -> list:
        """The values of a field, all of certain types."""
        values = [entry.get(field, default) for entry in self.entries]
        if not set(map(type, values)) <= kinds:
            wrong = (i for i, value in enumerate(values) if type(value) not in kinds)
            self.refuse(wrong, field, expected)
        return values

    def ids(self, owners: Sequence[Hashable] | None = None) -> list[Hashable]:
        """The entries' ids, none of which occurs twice (with one owner)."""
        ids = self.column("id", _IDS, "a number or a text")
        keys = ids if owners is None else list(zip(owners, ids, strict=True))
        if len(set(keys)) < len(keys):
            self.refuse(_repeated(keys), "id", "an id that no other entry has")
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
            self.refuse(wrong, "bbox", _BOX)
        flat = np.fromiter(chain.from_iterable(boxes), float, 4 * len(boxes))
        boxes = flat.reshape(-1, 4)
        wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1)
        self.refuse_where(wrong, "bbox", _BOX)
        return boxes

    def of(self, chosen: np.ndarray) -> list[dict]:
        """Those that are chosen, (N,) bool."""
        return [self.entries[index] for index in np.flatnonzero(chosen)]

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
            kind = "text" if type(next(iter(ids), 0)) is str else "number"
            mistaken = (
                index
                for index in np.flatnonzero(~found)
                if str(values[index]) in texts or not found.any()
            )
            self.refuse(mistaken, field, f"the id of one of '{where}', a {kind}")
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
    kept, odd = _sort_out(reasons, objects)
    beyond = kept & (ends > extents + 1).any(axis=1)
    if beyond.sum() > _MANY * kept.sum():
        remarks += (
            f"{beyond.sum()} of {kept.sum()} boxes {_BEYOND}; are they x, y, width, "
            "height, and of these images?",
        )
    if masks == "read":
        _check_masks(objects, sizes, kept)
    contents = _contents(objects, kept & ~crowds, names, odd, remarks, len(sizes))
    if beyond.any():
        odd[_BEYOND] = objects.of(beyond)
    return contents


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

    segments = _Entries(path, list(chain.from_iterable(lists)), "segments_info", name)
    segments.ids(owners.tolist())
    expected = "the id of a category that is one of the data set's classes"
    known = segments.known("category_id", names, "categories")
    segments.refuse_where(~known, "category_id", expected)
    boxes, crowds = segments.boxes(), segments.crowds()
    areas = segments.numbers("area", "a finite number of pixels")
    small = (boxes[:, 2:] < 1).any(axis=1) | (areas <= 0)
    reasons = {"narrower than a pixel or of area 0": small}
    kept, odd = _sort_out(reasons, segments)
    return _contents(segments, kept & ~crowds, names, odd, remarks, len(sizes))


def collect_faults(
    content: Any, check: Callable[[Any], Contents]
) -> tuple[list[UserError], Any, Contents | None]:
    """Find every fault of a file, not the first alone.

    Args:
        content: what the file holds; it stays as it is.
        check: `check_instances` or `check_panoptic`, with all but the content.

    Returns:
        The faults; the content without the entries at fault; what a data set takes from
        that, None where it can take nothing.
    """
    faults = []
    while True:
        try:
            return faults, content, check(content)
        except EntryError as error:
            faults.append(error)
            # What belongs to a category would be at fault next, without being so.
            if error.where == "categories":
                return faults, content, None
            content = _without(content, {id(one) for one in error.entries})
        except UserError as error:
            faults.append(error)
            return faults, content, None


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first of many names."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def _check_fields(content: Any, path: str, *fields: str) -> None:
    expected = "expected a dict with 'images', 'annotations' and 'categories'"
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: {expected}, got {_shown(content)}; {_MENDED}.")
    for name in fields:
        if name not in content:
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
        twice = (index for index in _repeated(names) if names[index] in wanted)
        remedy = "give each class one category, or rename the one that is none"
        categories.refuse(twice, "name", "a name that no other category has", remedy)
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
    polygons, codes = [], []
    for index in np.flatnonzero(kept).tolist():
        entry = objects.entries[index]
        mask = entry.get("segmentation")
        if isinstance(mask, dict):
            width, height = sizes[entry["image_id"]]
            sound = isinstance(mask.get("counts"), list | str)
            if not sound or mask.get("size") != [height, width]:
                codes.append(index)
        elif not (isinstance(mask, list) and mask and all(map(_is_polygon, mask))):
            polygons.append(index)
    expected = "polygons, lists of x and y in turn (masks are read)"
    objects.refuse(polygons, "segmentation", expected)
    if codes:
        width, height = sizes[objects.entries[codes[0]]["image_id"]]
        expected = (
            f"run lengths with 'counts' and 'size' [{height:g}, {width:g}], the height "
            "and width of its image"
        )
        objects.refuse(codes, "segmentation", expected)


def _is_polygon(points: Any) -> bool:
    # Of fewer than three points mmdet takes none.
    if not isinstance(points, list) or len(points) % 2:
        return False
    return set(map(type, points)) <= _NUMBERS


def _sort_out(
    reasons: Mapping[str, np.ndarray], objects: _Entries
) -> tuple[np.ndarray, dict[str, list[dict]]]:
    """Which objects stay, and which leave for which (first) reason."""
    kept, odd = np.ones(len(objects.entries), bool), {}
    for reason, applies in reasons.items():
        if found := objects.of(kept & applies):
            odd[reason] = found
        kept &= ~applies
    return kept, odd


def _contents(
    objects: _Entries,
    counted: np.ndarray,
    names: dict[Hashable, str],
    odd: dict[str, list[dict]],
    remarks: tuple[str, ...],
    images: int,
) -> Contents:
    kinds = Counter(one["category_id"] for one in objects.of(counted))
    left_out = {reason: len(found) for reason, found in odd.items()}
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        total = len(objects.entries)
        remarks += (
            f"{sum(left_out.values())} of {total} objects are left out: {reasons}.",
        )
    counts = {one: kinds.get(one, 0) for one in names}
    return Contents(names, counts, left_out, remarks, images, odd)


def _repeated(keys: Iterable[Hashable]) -> Iterator[int]:
    """The places of keys that stand before, too."""
    seen = set()
    for index, key in enumerate(keys):
        if key in seen:
            yield index
        seen.add(key)


def _without(content: Mapping, wrong: set[int]) -> dict[str, Any]:
    """What a file holds without the entries of these identities."""
    lists = {
        key: [one for one in value if id(one) not in wrong]
        for key, value in content.items()
        if key in ("images", "annotations")
    }
    for index, one in enumerate(lists.get("annotations", [])):
        if isinstance(one, dict) and isinstance(one.get("segments_info"), list):
            kept = [part for part in one["segments_info"] if id(part) not in wrong]
            lists["annotations"][index] = {**one, "segments_info": kept}
    return {**content, **lists}


def _shown(value: Any) -> str:
    """A value as it stands in the file, cut short."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
