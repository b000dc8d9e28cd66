"""The images of the embedded scenes for mmpretrain, without annotations."""

from mmpretrain.datasets import CustomDataset

from mmrev.datasets.scenes import SceneSettings, ensure_scenes
from mmrev.registry import DATASETS


@DATASETS.register_module()
class ScenesImages(CustomDataset):
    """mmpretrain's `CustomDataset` on scenes that are composed at first use.

    Args:
        data_root: folder of the scenes; composed when absent or of other settings.
        scenes: fields of `SceneSettings` that differ from the defaults.
    """

    def __init__(self, *, data_root: str, scenes: dict | None = None, **kwargs) -> None:
        ensure_scenes(data_root, SceneSettings(**(scenes or {})))
        super().__init__(data_root=data_root, with_label=False, **kwargs)
