"""Data, and predictions beside the ground truth, as pages."""
