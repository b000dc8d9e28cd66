"""Experts: routing as Tutel's, what is dropped, precision, counts."""

import copy
import math

import pytest
import torch
from tolerances import assert_close
from torch import nn

from mmrev.models.layers.moe import Experts, activated_parameters, routings
from mmrev.reversible import recompute


def experts(count, channels=8, capacity_factor=1.25, noise=1.0):
    torch.manual_seed(0)
    mlps = [
        nn.Sequential(nn.Linear(channels, 12), nn.GELU(), nn.Linear(12, channels))
        for _ in range(count)
    ]
    layer = Experts(mlps, channels, capacity_factor, noise)
    nn.init.normal_(layer.router.gate.weight)  # clear choices
    return layer


def by_tutel(layer, x, noise):
    """Output and auxiliary loss, token by token, by the arithmetic of Tutel.

    After microsoft/tutel @82af7aa, impls/fast_dispatch.py (extract_critical, with
    batch-prioritised routing) and impls/losses.py (load_importance_loss). Built for
    CPUs, its own layer gave the same bits for output, loss and dropped tokens.
    """
    count = len(layer.experts)
    logits = x @ layer.router.gate.weight.T
    noisy = logits + noise / count
    scores = noisy.softmax(1)
    capacity = int(layer.capacity_factor * math.ceil(len(x) / count))
    rows = []
    room = [capacity] * count
    for token in scores.max(1).values.argsort(descending=True).tolist():
        expert = int(scores[token].argmax())
        room[expert] -= 1
        if room[expert] >= 0:
            row = scores[token, expert] * layer.experts[expert](x[token])
            rows.append((token, row))
    seated = torch.zeros(len(x), dtype=torch.bool)
    seated[[token for token, _ in rows]] = True
    rows += [(int(i), torch.zeros_like(x[0])) for i in (~seated).nonzero()]
    output = torch.stack([row for _, row in sorted(rows, key=lambda row: row[0])])

    probabilities = logits.softmax(1)
    importance = probabilities.sum(0)
    normal = torch.distributions.Normal(0.0, 1.0 / count)
    load = normal.cdf(probabilities - noisy.max(1, keepdim=True).values).sum(0)
    losses = [a.var() / (a.mean() ** 2 + 1e-10) for a in (importance, load)]
    return output, sum(losses) / 2, int((~seated).sum())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("count", "factor"), [(2, 1.25), (8, 1.25), (5, 1.0), (3, 9)])
def test_is_tutels_layer(count, factor, training):
    layer = experts(count, capacity_factor=factor).train(training)
    x = torch.randn(50, 8, requires_grad=True)
    torch.manual_seed(1)
    noise = torch.randn(50, count) if training else torch.zeros(50, count)
    expected, loss, dropped = by_tutel(layer, x, noise)
    torch.manual_seed(1)
    with routings(layer) as found:
        output, factor = layer(x.view(2, 25, 8))
    ((routing,),) = found.values()
    assert int(routing.dropped) == dropped
    assert bool(dropped) == (count > 3)
    assert_close((output * factor).flatten(0, 1), expected)
    assert_close(routing.balance, loss)
    weights = [x, *layer.parameters()]
    direction = torch.randn_like(expected)
    ours = ((output * factor).flatten(0, 1) * direction).sum() + routing.balance
    theirs = (expected * direction).sum() + loss
    for gradient, other in zip(
        torch.autograd.grad(ours, weights),
        torch.autograd.grad(theirs, weights),
        strict=True,
    ):
        assert_close(gradient, other)


def test_a_dropped_token_gives_no_gradient():
    layer = experts(4, capacity_factor=0.5)
    x = torch.randn(40, 8, requires_grad=True)
    with routings(layer) as found:
        output, factor = layer(x)
    ((routing,),) = found.values()
    assert routing.dropped >= 20
    assert torch.equal(factor[:, 0] == 0, ~routing.kept)
    (output * factor).sum().backward()
    assert torch.equal(x.grad.abs().sum(1) == 0, ~routing.kept)


def test_the_clearest_choices_are_kept():
    layer = experts(4, capacity_factor=0.5).eval()
    x = torch.randn(40, 8)
    with routings(layer) as found:
        layer(x)
    ((routing,),) = found.values()
    scores, chosen = layer.router.gate(x).softmax(1).max(1)
    for expert in range(4):
        kept = scores[(chosen == expert) & routing.kept]
        left = scores[(chosen == expert) & ~routing.kept]
        assert not len(left) or kept.min() >= left.max()


@pytest.mark.parametrize(("tokens", "rows"), [(1, 1), (9, 2), (8, 1), (64, 10)])
def test_capacity(tokens, rows):
    assert experts(8).capacity(tokens) == rows
    assert experts(1).capacity(tokens) == tokens


def test_one_expert_is_that_expert_and_draws_nothing():
    layer, x = experts(1), torch.randn(3, 5, 8)
    before = torch.get_rng_state()
    with routings(layer) as found:
        output, factor = layer(x)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(output, layer.experts[0](x))
    assert torch.equal(factor, torch.ones(3, 5, 1))
    assert found["router"][0].balance == 0


def test_routes_in_fp32_under_autocast():
    layer, x = experts(8).eval(), torch.randn(30, 8)
    with routings(layer) as found:
        layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            output, factor = layer(x)
    one, other = found["router"]
    assert output.dtype == torch.bfloat16 and factor.dtype == torch.float32
    for tensor, expected in zip(other, one, strict=True):
        assert torch.equal(tensor, expected)


def test_what_runs_again_is_not_counted_again():
    layer, x = experts(4), torch.randn(30, 8, requires_grad=True)
    layers = copy.deepcopy(layer), layer
    found = []
    for one, call in zip(layers, (lambda m, x: m(x), recompute), strict=True):
        torch.manual_seed(1)
        with routings(one) as routed:
            output, factor = call(one, x)
        ((routing,),) = routed.values()
        loss = (output * factor).square().sum() + routing.balance
        gradients = torch.autograd.grad(loss, [x, *one.parameters()])
        ((again,),) = routed.values()
        assert again is routing
        found.append([routing.dropped, *gradients])
    for tensor, expected in zip(*found, strict=True):
        assert torch.equal(tensor, expected)


def test_activated_parameters():
    model = nn.Sequential(experts(4), nn.Linear(8, 8))
    one = 8 * 12 + 12 + 12 * 8 + 8
    assert activated_parameters(model) == one + 4 * 8 + 72
    assert sum(p.numel() for p in model.parameters()) == 4 * one + 4 * 8 + 72


@pytest.mark.parametrize(
    ("count", "factor", "noise"), [(0, 1.25, 1.0), (2, 0.0, 1.0), (2, 1.25, 0.0)]
)
def test_settings_without_a_meaning(count, factor, noise):
    message = f"Experts: expected experts.*got {count}, {factor} and {noise}"
    with pytest.raises(ValueError, match=message):
        experts(count, capacity_factor=factor, noise=noise)
