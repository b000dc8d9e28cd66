"""What a test's record says of its task."""

import pytest

from mmrev.engine.hooks.record import _task


@pytest.mark.parametrize(
    ("predicted", "metrics", "task"),
    [
        ("pred_instances", "coco/bbox_mAP", "detection"),
        ("pred_instances", "coco/segm_mAP", "instance segmentation"),
        ("pred_instances", "coco/boundary_mAP", "instance segmentation"),
        ("pred_sem_seg", "mIoU", "semantic segmentation"),
        ("pred_panoptic_seg", "coco_panoptic/PQ", "panoptic segmentation"),
        # A panoptic model that is tested for its boxes alone, or for both.
        ("pred_panoptic_seg pred_instances", "coco/bbox_mAP", "detection"),
        (
            "pred_panoptic_seg pred_instances",
            "coco_panoptic/PQ coco/bbox_mAP",
            "panoptic segmentation",
        ),
        ("pred_score", "accuracy/top1", "classification"),
    ],
)
def test_the_task_is_that_of_the_metric(predicted, metrics, task):
    sample = dict.fromkeys(predicted.split())
    assert _task(sample, dict.fromkeys(metrics.split())) == task
