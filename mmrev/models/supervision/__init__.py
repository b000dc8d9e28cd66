"""Plug-in losses."""

from mmrev.models.supervision.intermediate import IntermediateSupervision

__all__ = ["IntermediateSupervision"]
