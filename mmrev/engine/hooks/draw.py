"""Pictures of predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmrev.registry import HOOKS

__all__ = ["DrawPredictionsHook"]


@HOOKS.register_module()
class DrawPredictionsHook(Hook):
    """Draws each tested image with its prediction, by the config's own visualizer.

    One picture per image under one name, whatever the task; the hooks of mmdet, mmseg
    and mmpretrain each have a layout of their own.

    Args:
        out_dir: Folder of the pictures, named like the images.
        backend_args: Where the images are read from, as of mmengine's fileio.
    """

    def __init__(self, out_dir: str, backend_args: dict | None = None):
        self.out_dir = Path(out_dir)
        self.backend_args = backend_args

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw one batch."""
        for sample in outputs:
            content = get(sample.img_path, backend_args=self.backend_args)
            image = mmcv.imfrombytes(content, channel_order="rgb")
            target = str(self.out_dir / f"{Path(sample.img_path).stem}.png")
            if hasattr(runner.visualizer, "visualize_cls"):
                runner.visualizer.visualize_cls(image, sample, out_file=target)
            else:
                runner.visualizer.add_datasample(
                    target, image, sample, draw_gt=False, out_file=target
                )
