"""Detectors of mmdet with what they lack; registered if mmdet is installed."""

from importlib.util import find_spec

__all__ = []

if find_spec("mmdet"):
    from mmrev.models.detectors.dino import DINO, DINOHead

    __all__ += ["DINO", "DINOHead"]
