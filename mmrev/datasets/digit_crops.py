"""Single digits on photographs for mmpretrain, composed on the fly."""

from typing import ClassVar

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmrev.datasets.compose import compose_crop
from mmrev.datasets.scenes import SceneSettings, scene_rng
from mmrev.datasets.sources import CLASSES, load_digits, load_photographs
from mmrev.registry import DATASETS


@DATASETS.register_module()
class DigitCrops(BaseDataset):
    """Every digit of a split, each time drawn anew onto a photograph.

    Item `round * num_digits + i` shows digit i for the round-th time. It depends on
    (seed, split, round, i) alone, whatever worker composes it and in what order. The
    digits and photographs are those of the embedded scenes' split.

    Args:
        split: `'training'` (4000 digits) or `'validation'` (1000).
        size: side of the square crops, in pixels.
        num_rounds: how often each digit occurs in the dataset.
        scenes: fields of `SceneSettings` that differ from the defaults; the digits
            get their `digit_size`.
        pipeline: transforms, as in every mmpretrain dataset. They get `img` (BGR,
            as loaders give it) and `gt_label`.

    Raises:
        ValueError: an unknown split.
    """

    METAINFO: ClassVar = {"classes": CLASSES}

    def __init__(
        self,
        split: str,
        size: int,
        num_rounds: int = 1,
        scenes: dict | None = None,
        pipeline: tuple = (),
    ) -> None:
        self.split = split
        self.size = size
        self.num_rounds = num_rounds
        self.settings = SceneSettings(**(scenes or {}))
        self.digits = load_digits(split)
        self.photographs = load_photographs(split)
        super().__init__(ann_file="", pipeline=pipeline)

    def load_data_list(self) -> list[dict]:
        """List the label of every crop."""
        labels = np.tile(self.digits.labels, self.num_rounds)
        return [{"gt_label": int(label)} for label in labels]

    def get_data_info(self, idx: int) -> dict:
        """Compose crop `idx`."""
        info = super().get_data_info(idx)
        turn, number = divmod(info["sample_idx"], len(self.digits.labels))
        rng = scene_rng(self.settings.seed, self.split, turn, number)
        image = compose_crop(
            self.digits.images[number],
            self.photographs,
            self.size,
            self.settings.digit_size,
            rng,
        )
        shape = image.shape[:2]
        return {
            **info,
            "img": image[..., ::-1].copy(),
            "img_shape": shape,
            "ori_shape": shape,
        }
