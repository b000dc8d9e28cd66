"""The embedded scenes for mmdet."""

from typing import ClassVar

from mmdet.datasets import CocoDataset

from mmrev.datasets.scenes import SceneSettings, ensure_scenes
from mmrev.datasets.sources import CLASSES, PALETTE
from mmrev.registry import DATASETS


@DATASETS.register_module()
class ScenesDetDataset(CocoDataset):
    """mmdet's `CocoDataset` on scenes that are composed at first use.

    Args:
        data_root: folder of the scenes; composed when absent or of other settings.
        scenes: fields of `SceneSettings` that differ from the defaults.
    """

    METAINFO: ClassVar = {"classes": CLASSES, "palette": PALETTE[1:]}

    def __init__(
        self, *args, data_root: str, scenes: dict | None = None, **kwargs
    ) -> None:
        ensure_scenes(data_root, SceneSettings(**(scenes or {})))
        super().__init__(*args, data_root=data_root, **kwargs)
