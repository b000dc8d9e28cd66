"""What is timed side by side is the same network."""

from dataclasses import replace

import pytest
import torch

from mmrev.registry import MODELS
from mmrev.studies.reference_speed import COMPARISONS, compare


@pytest.mark.parametrize("name", ["swinv2-t-w8-256px", "nfnet-f0-256px-as-timm"])
def test_both_have_the_same_parameters_and_last_level(name):
    configs = COMPARISONS[name].ours, COMPARISONS[name].reference
    models = [MODELS.build(config) for config in configs]
    for model in models:
        model.eval()  # of mmpretrain, it returns nothing
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert counts[0] == counts[1]
    with torch.no_grad():
        shapes = [model(torch.randn(1, 3, 64, 64))[-1].shape for model in models]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("training", [False, True])
def test_costs_of_both_are_measured(training):
    small = replace(COMPARISONS["swinv2-t-w8-256px"], image_size=64)
    costs = compare(small, training, repeats=1)
    assert list(costs) == ["ours", "reference"]
    for cost in costs.values():
        assert cost.peak > 64 * 64 * 3
