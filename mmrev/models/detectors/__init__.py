"""Detectors of mmdet with what they lack; registered if mmdet is installed."""

from importlib.util import find_spec

from mmrev.console import hushed

__all__ = []

if find_spec("mmdet"):
    with hushed():
        from mmrev.models.detectors.dino import DINO, DINOHead

    __all__ += ["DINO", "DINOHead"]
