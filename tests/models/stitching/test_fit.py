"""Least squares for stitches, and their refinement."""

import copy

import pytest
import torch
from test_stitched_backbone import SETS, build

from mmrev.models.stitching import (
    Stitch,
    StitchedBackbone,
    fit_stitches,
    refine_stitches,
)
from mmrev.models.stitching.fit import LeastSquares, crossings_by_layer
from mmrev.models.stitching.refine import _Refinement


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


def fitted(name, batches):
    model = build(name)
    fit_stitches(model, batches, tokens=64)
    return model


def distance(model, image):
    """Of the levels that the end anchor gives, along each route of one crossing."""
    total = 0.0
    for stitch, route in enumerate(model.routes):
        if len(route.crossings) != 1:
            continue
        (crossing,) = route.crossings
        emitted = [i for i in model.runners[crossing.end].levels[crossing.stage :] if i]
        first = emitted[0][0]
        model.set_stitch(stitch)
        levels = model(image)[first:]
        model.set_stitch(crossing.end)
        for x, y in zip(levels, model(image)[first:], strict=True):
            total += float((x - y).square().mean() / y.var())
    return total


@pytest.mark.parametrize(
    "name",
    [
        "resnet",
        pytest.param("vit", marks=[pytest.mark.ci, pytest.mark.slow]),
        pytest.param("revcol", marks=[pytest.mark.ci, pytest.mark.slow]),
    ],
)
def test_refined_stitches_lead_closer_to_the_levels_of_the_end_anchor(name):
    torch.manual_seed(1)
    batches = [torch.randn(2, 3, 64, 64) for _ in range(4)]
    held_out = torch.randn(4, 3, 64, 64)
    local = fitted(name, batches)
    # As a run has it: training mode, and a part that is frozen.
    local.train()
    next(local.anchors[0].parameters()).requires_grad_(False)
    refined = copy.deepcopy(local)
    for module in refined.anchors.modules():
        if hasattr(module, "with_cp"):
            module.with_cp = True  # reentrant: not every way to a gradient works
    errors = refine_stitches(refined, batches, steps=8)
    assert list(errors) == list(crossings_by_layer(local))
    assert all(0 <= after <= before for before, after in errors.values())
    assert sum(after < before for before, after in errors.values()) > len(errors) / 2

    old, new = dict(local.named_parameters()), dict(refined.named_parameters())
    for key, value in refined.state_dict().items():
        if not key.startswith("stitches."):
            assert torch.equal(value, local.state_dict()[key]), key
    assert [m.training for m in refined.modules()] == [
        m.training for m in local.modules()
    ]
    for key, parameter in new.items():
        assert parameter.requires_grad == old[key].requires_grad, key
        assert parameter.grad is None, key

    with torch.no_grad():
        found, start = (distance(m.eval(), held_out) for m in (refined, local))
    assert found < start


@torch.no_grad()
def test_the_error_is_that_of_the_levels():
    batches = [torch.randn(2, 3, 64, 64) for _ in range(2)]
    model = fitted("resnet", batches)
    with torch.enable_grad():
        errors = refine_stitches(copy.deepcopy(model), batches, steps=1)
    model.set_stitch(1)
    target = model(torch.cat(batches))
    for name, crossings in crossings_by_layer(model).items():
        stage = crossings[0].stage
        expected = []
        for stitch, route in enumerate(model.routes):
            if not set(route.crossings) & set(crossings):
                continue
            model.set_stitch(stitch)
            levels = model(torch.cat(batches))
            for x, y in zip(levels[stage:], target[stage:], strict=True):
                variance = (y - y.mean((0, 2, 3), keepdim=True)).square().mean()
                expected.append(float((x - y).square().mean() / variance))
        assert len(expected) == len(crossings) * (4 - stage)
        mean = sum(expected) / len(expected)
        assert errors[name][0] == pytest.approx(mean, rel=1e-3)


def test_refining_the_same_images_gives_the_same_stitches():
    batches = [torch.randn(1, 3, 64, 64) for _ in range(2)]
    models = [fitted("resnet", batches) for _ in range(2)]
    errors = []
    for seed, model in enumerate(models):
        torch.manual_seed(seed)
        errors.append(refine_stitches(model, batches, steps=3))
    assert errors[0] == errors[1]
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name]), name


def test_an_update_of_low_rank_is_part_of_the_start():
    batches = [torch.randn(2, 3, 64, 64)]
    model = build("resnet", rank=2)
    fit_stitches(model, batches, tokens=64)
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter, std=0.05)
    start = copy.deepcopy(model)
    errors = refine_stitches(model, batches, steps=5)
    fallen = [name for name, (before, after) in errors.items() if after < before]
    assert fallen
    for name in fallen:
        (old,), (new,) = start.get_submodule(name), model.get_submodule(name)
        assert not new.up.any()
        change = (new.weight - old.matrix()).norm() / old.matrix().norm()
        assert 0 < change < 0.5


def test_a_stitch_that_does_not_improve_is_kept():
    batches = [torch.randn(1, 3, 64, 64)]
    model = fitted("resnet", batches)
    start = copy.deepcopy(model.state_dict())
    errors = refine_stitches(model, batches, steps=3, lr=1e9)
    assert all(before == after for before, after in errors.values())
    assert all(torch.equal(v, start[k]) for k, v in model.state_dict().items())


def shares(rank):
    """Images of a process, split in two ways; in the second one has none."""
    torch.manual_seed(2)
    images = [torch.randn(3, 3, 64, 64) for _ in range(2)]
    parts = slice(0, 1), slice(1, 3)
    return [
        [batch[parts[rank]] for batch in images],
        images if rank == 0 else [],
    ]


def refine_shares(rank):
    results = []
    for batches in shares(rank):
        model = build("resnet")
        errors = refine_stitches(model, batches, steps=3)
        results.append((errors, model.state_dict()))
    return results


def test_two_processes_refine_as_one(process_pair):
    results = process_pair.run(refine_shares)
    model = build("resnet")
    errors = refine_stitches(model, shares(0)[1], steps=3)
    assert any(after < before for before, after in errors.values())
    for first, second in zip(*results, strict=True):
        assert first[0] == second[0]
        for name, pair in errors.items():
            assert first[0][name] == pytest.approx(pair, rel=1e-4)
        for key, value in model.state_dict().items():
            assert torch.equal(first[1][key], second[1][key]), key
            torch.testing.assert_close(first[1][key], value, rtol=1e-3, atol=1e-4)


def fit_on_unlike_machines(rank):
    """Whose linear algebra and whose updates differ in the last digits."""
    batches = shares(rank)[0]
    model = build("resnet")
    solve, descend = LeastSquares.solve, _Refinement.descend

    def solve_unlike(self, ridge):
        weight, bias, score = solve(self, ridge)
        return weight * (1 + 1e-4 * rank), bias, score + 1e-4 * rank

    def descend_unlike(self, start, steps, lr):
        found = descend(self, start, steps, lr)
        return {
            name: [one._replace(bias=one.bias + 1e-4 * rank) for one in maps]
            for name, maps in found.items()
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LeastSquares, "solve", solve_unlike)
        patch.setattr(_Refinement, "descend", descend_unlike)
        scores = fit_stitches(model, batches, tokens=16)
        fitted = copy.deepcopy(model.state_dict())
        refine_stitches(model, batches, steps=2)
    return scores, fitted, model.state_dict()


def test_two_processes_have_one_solution(process_pair):
    first, second = process_pair.run(fit_on_unlike_machines)
    assert first[0] == second[0]
    for one, other in zip(first[1:], second[1:], strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert any(not torch.equal(v, first[2][name]) for name, v in first[1].items())


@pytest.mark.parametrize(
    ("batches", "settings", "message"),
    [
        ([], {}, "expected images, got none"),
        (iter([]), {}, "got a list_iterator, which ends. Give a list"),
        ([], dict(steps=0), "steps must be >= 1, got 0"),
        ([], dict(lr=0.0), r"lr must be > 0 and finite, got 0\.0"),
        ([], dict(lr=float("nan")), "lr must be > 0 and finite, got nan"),
    ],
)
def test_what_cannot_be_refined(batches, settings, message):
    with pytest.raises(ValueError, match=message):
        refine_stitches(build("resnet"), batches, **settings)
