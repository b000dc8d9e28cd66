"""A batch as a config's training takes it, of noise: no data set is needed."""

from collections.abc import Sequence
from math import prod

from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mmrev.datasets.scenes import SceneSettings
from mmrev.datasets.synthetic import (
    BOXES,
    classification_batch,
    detection_batch,
    segmentation_batch,
)
from mmrev.errors import UserError
from mmrev.runs.nodes import walk
from mmrev.wrappers import plain_settings

__all__ = ["image_size", "num_classes", "training_batch"]


def image_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the largest images of a config's training, pixels.

    What the data preprocessor pads to, else what the last step of the pipeline that
    states a size leaves at most, long side across; of the embedded data, their size.

    Raises:
        UserError: if the config states none.
    """
    for node in walk(cfg.model.get("data_preprocessor") or {}):
        if node.where.rpartition(".")[2] == "size":
            return _pair(node.value)
    loader = cfg.get("train_dataloader") or {}
    for _, dataset in plain_settings(loader.get("dataset") or {}, "dataset"):
        if size := _last_size(dataset.get("pipeline") or []):
            return size
        kind = str(dataset.get("type"))
        if kind.startswith("mmrev.Scenes"):
            return _pair(SceneSettings(**(dataset.get("scenes") or {})).size)
        if kind.startswith("mmrev.") and "size" in dataset:
            return _pair(dataset["size"])
    raise UserError(
        f"config {cfg.filename}: its training states no size of images (as crop_size, "
        "scale or scales of the pipeline); give --size H W."
    )


def _last_size(pipeline: Sequence) -> tuple[int, int] | None:
    """What the last step of a pipeline that states a size makes of images, at most."""
    size = None
    for step in pipeline:
        kind = str(step["type"]).rpartition(".")[2]
        if kind == "RandomChoice":
            branches = [_last_size(branch) for branch in step["transforms"]]
            size = max(filter(None, branches), key=prod, default=size)
        elif "crop_size" in step and step.get("crop_type", "absolute") == "absolute":
            size = _pair(step["crop_size"])
        elif kind == "Pad" and step.get("size"):
            size = _pair(step["size"])
        elif "Resize" in kind and (scales := step.get("scales") or step.get("scale")):
            scales = scales if isinstance(scales, list) else [scales]
            short, long = max((sorted(_pair(scale)) for scale in scales), key=prod)
            largest = max(step.get("ratio_range") or (1.0,))
            size = round(short * largest), round(long * largest)
    return size


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def training_batch(
    cfg: Config, size: tuple[int, int], count: int, boxes: int = BOXES
) -> dict:
    """What the loader of a config would give, with 20 objects in every image.

    Args:
        cfg: of `load_config`.
        size: height and width of the images, pixels.
        count: images.
        boxes: objects in every image of a detector.
    """
    if cfg.default_scope == "mmseg":
        return segmentation_batch(size, count, num_classes(cfg))
    if cfg.default_scope == "mmpretrain":
        return classification_batch(size, count, num_classes(cfg), _mask_cell(cfg))
    masks = any(
        node.where.endswith(".with_mask") and node.value
        for node in walk(cfg.get("train_dataloader") or {})
    )
    return detection_batch(size, count, num_classes(cfg), masks, boxes)


def _mask_cell(cfg: Config) -> int | None:
    """Pixels of a cell of what masks the training's images, if something does."""
    loader = cfg.get("train_dataloader") or {}
    for _, dataset in plain_settings(loader.get("dataset") or {}, "dataset"):
        for step in dataset.get("pipeline") or []:
            if str(step["type"]).endswith("SimMIMMaskGenerator"):
                return TRANSFORMS.build(step).model_patch_size
    return None


def num_classes(cfg: Config) -> int:
    """Labels that every head knows are below it."""
    names = ("num_classes", "num_things_classes")
    return min(
        (
            node.value
            for node in walk(cfg.model)
            if node.where.rpartition(".")[2] in names
            and isinstance(node.value, int)
            and node.value > 1
        ),
        default=1,
    )
