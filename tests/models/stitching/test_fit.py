"""Least squares for stitches."""

import copy

import pytest
import torch
from test_stitched_backbone import SETS, build

from mmrev.models.stitching import Stitch, StitchedBackbone, fit_stitches
from mmrev.models.stitching.fit import LeastSquares


def test_a_planted_map_is_found():
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 3).double(), torch.randn(5).double()
    problem = LeastSquares(3, 5, torch.device("cpu"))
    for _ in range(4):
        x = 3 + torch.randn(50, 3).double()
        problem.add(x, x @ weight.mT + bias)
    found_weight, found_bias, score = problem.solve(ridge=0.0)
    torch.testing.assert_close(found_weight, weight, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found_bias, bias, rtol=1e-9, atol=1e-9)
    assert score == pytest.approx(1.0, abs=1e-9)


def test_is_torchs_least_squares_where_there_is_noise():
    torch.manual_seed(0)
    x, y = torch.randn(80, 4).double(), torch.randn(80, 2).double()
    problem = LeastSquares(4, 2, torch.device("cpu"))
    for part in (slice(0, 13), slice(13, 80)):
        problem.add(x[part], y[part])
    weight, bias, score = problem.solve(ridge=0.0)
    rows = torch.cat([x, torch.ones(80, 1).double()], 1)
    expected = torch.linalg.lstsq(rows, y).solution
    torch.testing.assert_close(torch.cat([weight.mT, bias[None]]), expected)
    rest = (y - rows @ expected).square().sum() / (y - y.mean(0)).square().sum()
    assert score == pytest.approx(1 - float(rest))


def test_features_that_depend_on_each_other_have_a_finite_map():
    problem = LeastSquares(3, 1, torch.device("cpu"))
    x = torch.randn(20, 1).repeat(1, 3)
    problem.add(x, x[:, :1])
    for ridge in (0.0, 1e-4):
        weight, bias, _ = problem.solve(ridge)
        assert weight.isfinite().all() and bias.isfinite().all()
    with pytest.raises(ValueError, match="expected samples, got none"):
        LeastSquares(3, 1, torch.device("cpu")).solve(0.0)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["mmdet swin", "resnet and swin", "vit", "vit, two ways", "revcol"]
)
def test_stitches_come_closer_to_the_end_anchor(name):
    random = build(name)
    fitted = copy.deepcopy(random)
    batches = [torch.randn(2, 3, 64, 64) for _ in range(3)]
    fitted.train()
    modes = [module.training for module in fitted.modules()]
    scores = fit_stitches(fitted, batches, tokens=64)
    assert [module.training for module in fitted.modules()] == modes
    fitted.eval()
    layers = [n for n, m in fitted.named_modules() if isinstance(m, Stitch)]
    assert list(scores) == layers
    assert all(0 < score <= 1 + 1e-6 for score in scores.values())

    def distance(model):
        total = 0.0
        for stitch, route in enumerate(model.routes):
            if not route.crossings or route.crossings[-1].end != 1:
                continue
            model.set_stitch(stitch)
            levels = model(batches[0])
            model.set_stitch(1)
            total += sum(
                float((x - y).square().mean() / y.var())
                for x, y in zip(levels[-1:], model(batches[0])[-1:], strict=True)
            )
        return total

    assert distance(fitted) < 0.8 * distance(random)


def test_the_same_images_give_the_same_stitches():
    batches = [torch.randn(1, 3, 64, 64)]
    models = [build("resnet"), build("resnet")]
    for model in models:
        fit_stitches(model, batches, tokens=8, seed=3)
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name]), name
    other = build("resnet")
    fit_stitches(other, batches, tokens=8, seed=4)
    key = "stitches.stage1_0to1.0.0.weight"
    assert not torch.equal(other.state_dict()[key], models[0].state_dict()[key])


def test_no_images():
    with pytest.raises(ValueError, match="expected images, got none"):
        fit_stitches(StitchedBackbone(**copy.deepcopy(SETS["resnet"])), [])
