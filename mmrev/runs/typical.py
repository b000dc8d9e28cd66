"""A batch as a config's training takes it, of noise: no data set is needed."""

from collections.abc import Iterator, Mapping
from math import prod

from mmengine.config import Config

from mmrev.datasets.scenes import SceneSettings
from mmrev.datasets.synthetic import (
    classification_batch,
    detection_batch,
    segmentation_batch,
)
from mmrev.errors import UserError
from mmrev.runs.nodes import walk
from mmrev.wrappers import plain_settings

__all__ = ["image_size", "training_batch"]


def image_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the largest images of a config's training, pixels.

    What the data preprocessor pads to, else what is cropped, else the largest scale of
    the pipeline, long side across; of the embedded data, their size.

    Raises:
        UserError: if the config states none.
    """
    for node in walk(cfg.model.get("data_preprocessor") or {}):
        if node.where.rpartition(".")[2] == "size":
            return _pair(node.value)
    loader = cfg.get("train_dataloader") or {}
    for _, dataset in plain_settings(loader.get("dataset") or {}, "dataset"):
        stated = list(_stated(dataset.get("pipeline") or []))
        if crops := [size for kind, size in stated if kind == "crop"]:
            return crops[-1]
        if stated:
            return max((size for _, size in stated), key=prod)
        kind = str(dataset.get("type"))
        if kind.startswith("mmrev.Scenes"):
            return _pair(SceneSettings(**(dataset.get("scenes") or {})).size)
        if kind.startswith("mmrev.") and "size" in dataset:
            return _pair(dataset["size"])
    raise UserError(
        f"config {cfg.filename}: its training states no size of images (as crop_size, "
        "scale or scales of the pipeline); give --size H W."
    )


def _stated(pipeline: list) -> Iterator[tuple[str, tuple[int, int]]]:
    """The sizes in a pipeline, in order: of crops, and of images that are resized."""
    for node in walk(pipeline):
        step = node.value
        if not isinstance(step, Mapping) or "type" not in step:
            continue
        kind = str(step["type"]).rpartition(".")[2]
        if "crop_size" in step and step.get("crop_type", "absolute") == "absolute":
            yield "crop", _pair(step["crop_size"])
        elif kind.endswith("ResizedCrop") and isinstance(step.get("scale"), int):
            yield "crop", _pair(step["scale"])
        elif "Resize" in kind:
            largest = max(step.get("ratio_range") or (1.0,))
            scales = step.get("scales") or [step.get("scale")]
            for scale in scales if isinstance(scales, list) else [scales]:
                if scale is not None:
                    short, long = sorted(_pair(scale))
                    yield "scale", (round(short * largest), round(long * largest))


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def training_batch(cfg: Config, size: tuple[int, int], count: int) -> dict:
    """What the loader of a config would give, with 20 objects in every image.

    Args:
        cfg: of `load_config`.
        size: height and width of the images, pixels.
        count: images.
    """
    if cfg.default_scope == "mmseg":
        return segmentation_batch(size, count, _classes(cfg))
    if cfg.default_scope == "mmpretrain":
        return classification_batch(size, count, _classes(cfg))
    masks = any(
        node.where.endswith(".with_mask") and node.value
        for node in walk(cfg.get("train_dataloader") or {})
    )
    return detection_batch(size, count, _classes(cfg), masks)


def _classes(cfg: Config) -> int:
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
