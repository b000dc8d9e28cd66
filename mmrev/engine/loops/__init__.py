"""Loops over data."""

from mmrev.engine.loops.stitching import StitchTestLoop

__all__ = ["StitchTestLoop"]
