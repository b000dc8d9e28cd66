"""When a kept value is used, and when it is computed anew."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mmrev.models.layers.parameter_cache import ParameterCache


@pytest.fixture
def parameter():
    return nn.Parameter(torch.arange(4.0))


class Doubled:
    """Twice a parameter, and how often that was computed."""

    def __init__(self, parameter):
        self.parameter, self.count, self.cache = parameter, 0, ParameterCache()

    def _compute(self):
        self.count += 1
        return 2 * self.parameter

    def __call__(self):
        return self.cache.get([self.parameter], self._compute)


def test_is_computed_once(parameter):
    doubled = Doubled(parameter)
    with torch.no_grad():
        first, second = doubled(), doubled()
    assert doubled.count == 1
    assert first is second
    assert torch.equal(first, 2 * parameter)


CHANGES = {
    "in place": lambda p: p.add_(1),
    "by an optimizer": lambda p: torch.optim.SGD([p], lr=1.0).step(),
    "of many at once": lambda p: torch._foreach_add_([p], 1),
    "another tensor": lambda p: setattr(p, "data", torch.ones(4)),
    "another dtype": lambda p: setattr(p, "data", p.data.double()),
    "a copy": lambda p: p.copy_(torch.ones(4)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_is_computed_again_after_a_change(parameter, change):
    doubled = Doubled(parameter)
    parameter.grad = torch.ones(4)
    with torch.no_grad():
        doubled()
        change(parameter)
        assert torch.equal(doubled(), 2 * parameter)
        assert doubled().dtype == parameter.dtype
    assert doubled.count == 2


def test_an_address_is_not_taken_for_a_parameter(parameter):
    """Memory that is freed and used again must not look unchanged."""
    doubled = Doubled(parameter)
    with torch.no_grad():
        for value in range(50):
            parameter.data = torch.full((4,), float(value))
            assert torch.equal(doubled(), torch.full((4,), 2.0 * value))


def test_nothing_is_kept_where_gradients_flow(parameter):
    doubled = Doubled(parameter)
    with torch.no_grad():
        doubled()
    value = doubled()
    value.sum().backward()
    assert torch.equal(parameter.grad, torch.full((4,), 2.0))
    parameter.requires_grad_(False)
    assert not doubled().requires_grad
    assert doubled.count == 3  # an optimizer may have followed


def test_a_fused_optimizer_is_noticed(parameter):
    """It writes without counting a version."""
    doubled = Doubled(parameter)
    with torch.no_grad():
        doubled()
    doubled().sum().backward()
    torch.optim.AdamW([parameter], lr=0.1, fused=True).step()
    with torch.no_grad():
        assert torch.equal(doubled(), 2 * parameter)


def test_a_value_of_inference_mode_can_be_trained_with(parameter):
    parameter.requires_grad_(False)
    doubled, x = Doubled(parameter), torch.ones(4, requires_grad=True)
    with torch.inference_mode():
        doubled()
    (x * doubled()).sum().backward()
    assert torch.equal(x.grad, 2 * parameter)
    assert doubled.count == 1


def test_parameters_of_inference_mode_are_never_trusted():
    with torch.inference_mode():
        doubled = Doubled(torch.ones(4))
        doubled(), doubled()
    assert doubled.count == 2


def pickled(cache):
    return pickle.loads(pickle.dumps(cache))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copies_start_empty(parameter, copied):
    cache = ParameterCache()
    with torch.no_grad():
        cache.get([parameter], lambda: torch.zeros(3))
        value = copied(cache).get([parameter], lambda: torch.ones(2))
    assert torch.equal(value, torch.ones(2))


UNSEEN = {
    "by a fused optimizer": lambda p: torch.optim.AdamW([p], lr=1.0, fused=True).step(),
    "through data": lambda p: p.data.add_(1),
}


@pytest.mark.parametrize("change", UNSEEN.values(), ids=UNSEEN)
def test_clear(parameter, change):
    """What changes without a trace needs it."""
    doubled = Doubled(parameter)
    parameter.grad = torch.ones(4)
    with torch.no_grad():
        doubled()
        change(parameter)
        doubled.cache.clear()
        assert torch.equal(doubled(), 2 * parameter)
