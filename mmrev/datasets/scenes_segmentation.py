"""The embedded scenes for mmseg."""

from typing import ClassVar

from mmseg.datasets import BaseSegDataset

from mmrev.datasets.scenes import SceneSettings, ensure_scenes
from mmrev.datasets.sources import CLASSES, PALETTE
from mmrev.registry import DATASETS


@DATASETS.register_module()
class ScenesSegDataset(BaseSegDataset):
    """mmseg's `BaseSegDataset` on scenes that are composed at first use.

    Class 0 is the background, class d + 1 the digit d.

    Args:
        data_root: folder of the scenes; composed when absent or of other settings.
        scenes: fields of `SceneSettings` that differ from the defaults.
    """

    METAINFO: ClassVar = {"classes": ("background", *CLASSES), "palette": PALETTE}

    def __init__(self, *, data_root: str, scenes: dict | None = None, **kwargs) -> None:
        ensure_scenes(data_root, SceneSettings(**(scenes or {})))
        super().__init__(
            data_root=data_root,
            img_suffix=".png",
            seg_map_suffix=".png",
            reduce_zero_label=False,
            **kwargs,
        )
