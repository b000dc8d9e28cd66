"""One model of several backbones, with many operating points."""

from mmrev.models.stitching.anchors import Anchor, Tokens, anchor_of, register_anchor
from mmrev.models.stitching.fit import fit_stitches
from mmrev.models.stitching.refine import refine_stitches
from mmrev.models.stitching.routes import Crossing, Route, enumerate_routes
from mmrev.models.stitching.stitch import Stitch
from mmrev.models.stitching.stitched_backbone import StitchedBackbone, find_stitched

__all__ = [
    "Anchor",
    "Crossing",
    "Route",
    "Stitch",
    "StitchedBackbone",
    "Tokens",
    "anchor_of",
    "enumerate_routes",
    "find_stitched",
    "fit_stitches",
    "refine_stitches",
    "register_anchor",
]
