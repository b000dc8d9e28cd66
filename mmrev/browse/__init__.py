"""Predictions beside the ground truth, as a page."""
