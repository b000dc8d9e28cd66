"""Fast, exact metrics, for whichever of mmdet and mmseg is installed."""

from importlib import import_module
from importlib.util import find_spec

from mmrev.console import hushed
from mmrev.evaluation import cross_entropy, predictions  # noqa: F401  register metrics

# A user of mmdet alone has no mmseg: register what can be.
for _package, _module in (
    ("mmdet", "coco_metric"),
    ("mmdet", "coco_panoptic_metric"),
    ("mmseg", "iou_metric"),
):
    if find_spec(_package):
        with hushed():
            import_module(f".{_module}", __name__)
