"""What models are tested for; standard library only."""

from typing import Literal

__all__ = ["LOSS_METRIC", "MAIN_METRICS", "Task", "Track"]

Task = Literal[
    "detection",
    "instance segmentation",
    "semantic segmentation",
    "panoptic segmentation",
    "classification",
]
Track = Literal["frozen", "tuned", "scratch"]
MAIN_METRICS: dict[Task, str] = {
    "detection": "coco/bbox_mAP",
    "instance segmentation": "coco/segm_mAP",
    "semantic segmentation": "mIoU",
    "panoptic segmentation": "coco_panoptic/PQ",
    "classification": "accuracy/top1",
}
"""The metric that a task is ranked by."""
LOSS_METRIC = "cross_entropy"
"""The validation loss that scaling laws are about; nothing is ranked by it."""
