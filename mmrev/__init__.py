"""Reversible and other backbones for dense recognition with OpenMMLab."""

from __future__ import annotations

__version__ = "0.1.0"
