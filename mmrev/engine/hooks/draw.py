"""Pictures of predictions."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import mmcv
import numpy as np
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmrev.evaluation.coverage import image_key, image_keys
from mmrev.registry import HOOKS
from mmrev.wrappers import plain_datasets

__all__ = ["DrawPredictionsHook", "picture_names"]


@HOOKS.register_module()
class DrawPredictionsHook(Hook):
    """Draws each tested image with its prediction, by the config's own visualizer.

    One picture per image under one name, whatever the task; the hooks of mmdet, mmseg
    and mmpretrain each have a layout of their own.

    Args:
        out_dir: Folder of the pictures, named like the images, see `picture_names`.
        backend_args: Where the images are read from, as of mmengine's fileio.
    """

    def __init__(self, out_dir: str, backend_args: dict | None = None):
        self.out_dir = Path(out_dir)
        self.backend_args = backend_args

    def before_test_epoch(self, runner: Runner) -> None:
        """Name the pictures of all images."""
        datasets = plain_datasets(runner.test_dataloader.dataset)
        self._names = picture_names(key for one in datasets for key in image_keys(one))

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw one batch."""
        for number, sample in enumerate(outputs):
            image = self._image(sample, number, data_batch)
            target = str(self.out_dir / self._names[image_key(sample)])
            if hasattr(runner.visualizer, "visualize_cls"):
                runner.visualizer.visualize_cls(image, sample, out_file=target)
            else:
                runner.visualizer.add_datasample(
                    target, image, sample, draw_gt=False, out_file=target
                )

    def _image(
        self, sample: BaseDataElement, number: int, data_batch: Mapping[str, Any]
    ) -> np.ndarray:
        """The image as its file holds it, (H, W, 3) RGB; as it was loaded without one.

        Args:
            sample: Of the image.
            number: Of the image in its batch.
            data_batch: With ``inputs``, of each view of an image if there are several.
        """
        if sample.get("img_path") is not None:
            content = get(sample.img_path, backend_args=self.backend_args)
            return mmcv.imfrombytes(content, channel_order="rgb")
        inputs = data_batch["inputs"]
        views = inputs[0] if isinstance(inputs[0], Sequence) else inputs
        return np.ascontiguousarray(
            views[number].cpu().numpy()[::-1].transpose(1, 2, 0)
        )


def picture_names(keys: Iterable[str]) -> dict[str, str]:
    """Name the picture of each image so that none overwrites another.

    Args:
        keys: Of `mmrev.evaluation.coverage.image_key`.

    Returns:
        By key the name without the ending of the image and with as many folders as tell
        all apart, and with the image's own ending where those do not.
    """
    keys = list(dict.fromkeys(keys))
    names: dict[str, str] = {}
    for form in (lambda key: PurePath(key).with_suffix(""), PurePath):
        parts = {
            key: [one for one in form(key).parts if one not in ("/", "..")]
            for key in keys
        }
        for depth in range(1, max(map(len, parts.values()), default=0) + 1):
            names = {key: f"{'/'.join(parts[key][-depth:])}.png" for key in keys}
            if len(set(names.values())) == len(keys):
                return names
    return names
