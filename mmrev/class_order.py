"""Class names in the order of their labels."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrev.limits import ANNOTATIONS, refuse_larger

__all__ = ["order_classes"]


def order_classes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """List the classes of a data set in COCO's form as its file lists them.

    mmdet numbers labels in the file's order, whatever order ``metainfo.classes`` has;
    tables, pictures and checkpoints then give the figures of one class to another.

    Args:
        settings: Of a data set that wraps no other; they stay as they are.

    Returns:
        Settings with the names in the order of the labels. The same ones where there
        are no names, or a file that is not of this form or lacks one of them.

    Raises:
        ValueError: The file is larger than such a file may be.
    """
    classes = (settings.get("metainfo") or {}).get("classes")
    path = Path(settings.get("data_root") or "", settings.get("ann_file") or "")
    if not classes or path.suffix != ".json" or not path.is_file():
        return dict(settings)
    refuse_larger(f"annotations {path}", path.stat().st_size, ANNOTATIONS)
    try:
        categories = json.loads(path.read_bytes())["categories"]
        ordered = [one["name"] for one in categories if one["name"] in classes]
    # What is wrong with the file is said by whoever builds the data set.
    except (ValueError, KeyError, TypeError, RecursionError):
        return dict(settings)
    if sorted(ordered) != sorted(classes):
        return dict(settings)
    metainfo = {**settings["metainfo"], "classes": tuple(ordered)}
    return {**settings, "metainfo": metainfo}
