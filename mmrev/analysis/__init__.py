"""Measurements of models: operations, memory, gradients."""
