"""One file a family; no family imports another."""

from mmrev.models.backbones.revcol import RevCol

__all__ = ["RevCol"]
