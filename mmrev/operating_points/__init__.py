"""The stitches of a trained model: costs, ratings, plot, choice, export."""

from mmrev.operating_points.controller import LatencyController
from mmrev.operating_points.costs import load_costs, pareto_front, pick_stitch

__all__ = ["LatencyController", "load_costs", "pareto_front", "pick_stitch"]
