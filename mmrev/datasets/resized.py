"""How large images leave the pipeline of a data set, told before they are loaded."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile, TestTimeAug
from mmengine.dataset import BaseDataset

from mmrev.datasets.images import size_of, turns

__all__ = ["Views", "resized_sizes"]

# Height and width of every view of an image: one, or several of augmented tests.
Views = tuple[tuple[int, int], ...]

# Steps of mmcv, mmdet, mmseg and mmpretrain that leave the size of an image alone ...
_KEEP = {
    *("LoadImageFromFile", "LoadAnnotations", "LoadPanopticAnnotations", "Normalize"),
    *("AdjustGamma", "CLAHE", "RandomFlip", "Rerange", "RGB2Gray"),
    *("PackDetInputs", "PackSegInputs", "PackInputs"),
}
# ... and that change it, by nothing but itself.
_CHANGE = {
    *("Resize", "FixScaleResize", "FixShapeResize", "ResizeShortestEdge"),
    *("ResizeToMultiple", "ResizeEdge", "Pad", "CenterCrop", "EfficientNetCenterCrop"),
}
_TOOLBOXES = ("mmcv", "mmdet", "mmseg", "mmpretrain")


def resized_sizes(dataset: BaseDataset) -> Iterator[Views | None]:
    """Tell the sizes of images after the pipeline, by those before it.

    Those are the ones that annotations state; where they state none, headers of files
    are read. What the pipeline makes of them its own steps say, of a blank image.

    Args:
        dataset: that wraps no other.

    Returns:
        The size of each image in turn; None where its file cannot be read, or lies in
        other storage.

    Raises:
        ValueError: names the step that leaves the size open, or says that neither sizes
            nor files are known.
    """
    transforms = dataset.pipeline.transforms
    views = _views(transforms, type(dataset).__name__)
    load = next((one for one in transforms if isinstance(one, LoadImageFromFile)), None)
    turned = load is None or turns(load)
    infos = map(dataset.get_data_info, range(len(dataset)))
    if len(dataset) and not _is_known(dataset.get_data_info(0)):
        raise ValueError(
            f"{type(dataset).__name__}: expected images with height and width, or with "
            "the path of a file, got neither; their sizes cannot be told."
        )
    known: dict[tuple[int, int], Views] = {}

    def after(info: dict[str, Any]) -> Views | None:
        size = _size_before(info, turned)
        if size is not None and size not in known:
            known[size] = tuple(_run(steps, size) for steps in views)
        return known.get(size)

    return map(after, infos)


def _views(transforms: Sequence[Callable], owner: str) -> list[list[Callable]]:
    """The steps that change the size, for each view of an image."""
    views: list[list[Callable]] = [[]]
    for one in transforms:
        if isinstance(one, TestTimeAug):
            inner = [_views(routine.transforms, owner) for routine in one.subroutines]
            views = [
                [*before, *then]
                for before in views
                for routine in inner
                for then in routine
            ]
            continue
        kind = type(one)
        known = kind.__module__.partition(".")[0] in _TOOLBOXES
        if known and kind.__name__ in _CHANGE:
            for steps in views:
                steps.append(one)
        elif not (known and kind.__name__ in _KEEP) and not _only_looks(one):
            raise ValueError(
                f"{owner}: expected steps of a pipeline whose result has a size that "
                f"follows from the image's ({', '.join(sorted(_CHANGE))}), got "
                f"{kind.__name__}; leave it out of validation and test, or set "
                "batch_size=1."
            )
    return views


def _only_looks(transform: Callable) -> bool:
    """Whether it is one of the checks of `mmrev.datasets`."""
    function = getattr(transform, "func", transform)  # of a partial
    module = getattr(function, "__module__", "")
    return module.startswith("mmrev.datasets.")


def _is_known(info: dict[str, Any]) -> bool:
    return None not in _stated(info) or info.get("img_path") is not None


def _stated(info: dict[str, Any]) -> tuple[int | None, int | None]:
    return info.get("height"), info.get("width")


def _size_before(info: dict[str, Any], turned: bool) -> tuple[int, int] | None:
    """Height and width of an image as it is loaded, if they can be told."""
    if None not in (stated := _stated(info)):
        return stated
    try:
        return size_of(info["img_path"], turned)[::-1]
    except Exception:  # decoders raise all kinds
        return None


def _run(steps: Sequence[Callable], size: tuple[int, int]) -> tuple[int, int]:
    results = {"img": np.zeros((*size, 3), np.uint8), "img_shape": size}
    for step in steps:
        results = step(results)
    return results["img"].shape[:2]
