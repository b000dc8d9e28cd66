"""The embedded scenes, for whichever of mmdet, mmseg and mmpretrain is installed.

And how their images, and anybody's, become batches and are masked.
"""

from importlib import import_module
from importlib.util import find_spec

from mmrev.console import hushed
from mmrev.datasets.repeated_augmentation import RepeatedAugmentationBatchSampler
from mmrev.datasets.same_size_batch_sampler import SameSizeBatchSampler

__all__ = ["RepeatedAugmentationBatchSampler", "SameSizeBatchSampler"]

# A user of mmdet alone has no mmseg: register what can be.
for _package, _module in (
    ("mmdet", "scenes_detection"),
    ("mmseg", "scenes_segmentation"),
    ("mmpretrain", "digit_crops"),
    ("mmpretrain", "masks"),
    ("mmpretrain", "scenes_images"),
):
    if find_spec(_package):
        with hushed():
            import_module(f".{_module}", __name__)
