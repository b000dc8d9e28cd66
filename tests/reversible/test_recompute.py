"""`recompute` on any module: exact, and nothing but the inputs kept."""

import pytest
import torch
from tolerances import assert_close
from torch import nn

from mmrev.reversible import recompute


class Counting(nn.Module):
    """A linear, a GELU, a linear; counts how often each part began."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 4)
        self.calls = []

    def forward(self, x, y=None):
        self.calls.append("begin")
        hidden = nn.functional.gelu(self.first(x if y is None else x * y))
        result = self.last(hidden)
        self.calls.append("end")
        return result


class Sine(nn.Module):
    def forward(self, x):
        return x.sin()


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Counting()


def gradients(module, inputs, call):
    module.zero_grad()
    inputs = [i.detach().clone().requires_grad_(i.requires_grad) for i in inputs]
    call(module, *inputs).square().sum().backward()
    tensors = [*inputs, *module.parameters()]
    return [None if t.grad is None else t.grad.clone() for t in tensors]


def by_name(module, x, y):
    return recompute(module, x, y=y)


@pytest.mark.parametrize("call", [recompute, by_name])
@pytest.mark.parametrize("needs", [(True, True), (False, True), (False, False)])
def test_equals_an_ordinary_call(module, needs, call):
    inputs = [torch.randn(3, 4).requires_grad_(need) for need in needs]
    expected = gradients(module, inputs, lambda m, *i: m(*i))
    for actual, plain in zip(gradients(module, inputs, call), expected, strict=True):
        assert (actual is None) == (plain is None)
        if plain is not None:
            assert_close(actual, plain)


class Attention(nn.Module):
    """Computes otherwise where key and value are one, as torch's own attention does."""

    def forward(self, query, key, mask, values, scale=None):
        same = key is query
        weights = (query @ key.mT).masked_fill(mask, -1.0).softmax(-1)
        read = weights @ (key.sin() if same else values[0] * values[1])
        return read if scale is None else scale * read


@pytest.mark.parametrize("same", [False, True])
def test_inputs_of_every_kind(same):
    """Twice the same tensor, a mask, tensors in a list, and what is no tensor."""
    generator = torch.Generator().manual_seed(0)
    query, key, *values = torch.randn(4, 3, 3, generator=generator).unbind()
    mask = torch.eye(3, dtype=torch.bool)

    def step(call):
        tensors = [one.clone().requires_grad_() for one in (query, key, *values)]
        first, second, *rest = tensors
        given = dict(key=first if same else second, values=rest, scale=None)
        call(Attention(), first, mask=mask, **given).sum().backward()
        return [one.grad for one in tensors]

    expected = step(lambda module, *inputs, **settings: module(*inputs, **settings))
    for actual, plain in zip(step(recompute), expected, strict=True):
        assert (actual is None) == (plain is None)
        assert plain is None or torch.equal(actual, plain)


def test_a_method_of_a_module(module):
    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.norm = module, nn.BatchNorm1d(4)

        def part(self, x):
            return self.norm(self.inner(x)).sin()

    owner, x = Owner(), torch.randn(3, 4, requires_grad=True)
    expected = torch.autograd.grad(owner.part(x).sum(), [x, *module.parameters()])
    loss = recompute(owner.part, x).sum()
    actual = torch.autograd.grad(loss, [x, *module.parameters()])
    assert all(map(torch.equal, actual, expected))
    assert owner.norm.num_batches_tracked == 2
    loss = recompute(owner.part, x).sum()
    step(owner)
    with pytest.raises(RuntimeError, match=r"inner.first.weight was .*changed in"):
        loss.backward()


def test_a_parameter_is_an_input_like_any_other():
    square = nn.Linear(4, 4)
    x = nn.Parameter(torch.randn(4, 4))
    expected = torch.autograd.grad(square(x).sin().sum(), [x, *square.parameters()])
    model = nn.Sequential(square, Sine())
    loss = recompute(model, x).sum()
    actual = torch.autograd.grad(loss, [x, *square.parameters()])
    assert all(map(torch.equal, actual, expected))


def test_stops_before_the_last_product(module):
    x = torch.randn(3, 4, requires_grad=True)
    recompute(module, x).sum().backward()
    assert module.calls == ["begin", "end", "begin"]


def test_is_exact_within_itself(module):
    class Outer(nn.Module):
        def forward(self, x):
            return recompute(module, x.sin()).cos()

    x = torch.randn(3, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(module(x.sin()).cos().sum(), x)
    (actual,) = torch.autograd.grad(recompute(Outer(), x).sum(), x)
    assert_close(actual, expected)


def test_sees_the_same_random_numbers_and_leaves_them(module):
    dropout = nn.Sequential(nn.Dropout(0.5), module)
    x = torch.randn(64, 4)

    def run(call):
        torch.manual_seed(3)
        return *gradients(dropout, [x], call)[1:], torch.get_rng_state()

    for actual, expected in zip(run(recompute), run(lambda m, i: m(i)), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("call", [recompute, by_name])
def test_refuses_an_input_changed_in_place(module, call):
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    loss = call(module, x, y).sum()
    y.zero_()
    with pytest.raises(RuntimeError, match=r"input (1|y) was .*changed in place"):
        loss.backward()


def step(model):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(model.parameters(), lr=0.1).step()


@torch.no_grad()
def change_buffer(model):
    model[1].running_mean += 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (step, "0.first.weight"),
        (lambda m: nn.init.ones_(m[0].first.bias), "0.first.bias"),
        (lambda m: setattr(m[0], "first", nn.Linear(4, 8).eval()), "0.first.weight"),
        (change_buffer, "1.running_mean"),
        (lambda m: m.train(), "training"),
    ],
)
def test_refuses_weights_changed_before_the_backward_pass(module, change, name):
    model = nn.Sequential(module, nn.BatchNorm1d(4)).eval()
    loss = recompute(model, torch.randn(3, 4)).sum()
    change(model)
    with pytest.raises(RuntimeError, match=rf"'recompute': {name} was .*step of the"):
        loss.backward()


def replace_a_freed_weight(model):
    """The new tensor may get the identity of the one that is gone."""
    model[0].first.weight = None
    model[0].first.weight = nn.Parameter(torch.ones(8, 4), requires_grad=False)


def drop_a_layer(model):
    model[0].first = nn.Identity()


@pytest.mark.parametrize("change", [replace_a_freed_weight, drop_a_layer])
def test_refuses_weights_that_are_gone(module, change):
    model = nn.Sequential(module.requires_grad_(False))
    loss = recompute(model, torch.randn(3, 4, requires_grad=True)).sum()
    change(model)
    with pytest.raises(RuntimeError, match=r"replaced or changed in place"):
        loss.backward()


class Watched(dict):
    """Counts how often somebody goes through it."""

    looks = 0

    def values(self):
        self.looks += 1
        return super().values()

    def items(self):
        self.looks += 1
        return super().items()


def test_looks_through_a_module_once_a_pass(module):
    """Networks of many small levels feel it, and more so on a GPU."""
    children = module.__dict__["_modules"] = Watched(module._modules)
    result = recompute(module, torch.randn(3, 4))
    assert children.looks == 1
    result.sum().backward()
    assert children.looks == 2


def test_refuses_a_changed_parameter_that_alone_is_needed():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4), requires_grad=False)

        def forward(self, x):
            return x * self.weight

    scale = Scale()
    loss = recompute(scale, torch.randn(3, 4, requires_grad=True)).sum()
    nn.init.zeros_(scale.weight)
    with pytest.raises(RuntimeError, match=r"a parameter was .*changed in place"):
        loss.backward()


def test_refuses_a_module_that_does_not_do_the_same():
    class Fickle(nn.Module):
        passes = 0

        def forward(self, x):
            self.passes += 1
            return x.sin().cos() if self.passes == 1 else x.sin()

    x = torch.randn(3, requires_grad=True)
    loss = recompute(Fickle(), x).sum()
    with pytest.raises(RuntimeError, match=r"e': Fickle saved 2 tensors .* and 1"):
        loss.backward()


def test_refuses_a_gradient_taken_inside():
    class Penalty(nn.Module):
        def forward(self, x):
            (slope,) = torch.autograd.grad(x.pow(3).sum(), x, create_graph=True)
            return slope

    x = torch.randn(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="inside a module"):
        recompute(Penalty(), x).sum().backward()


def test_keeps_nothing_without_gradients(module):
    with torch.no_grad():
        assert recompute(module, torch.randn(3, 4)).grad_fn is None
