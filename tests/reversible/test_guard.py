"""No wrong gradient is silent: of what changed, and of what does not repeat itself."""

import itertools
import random

import numpy as np
import pytest
import torch
from outcomes import assert_same_bits, chain_step, columns_step, loss_of
from torch import nn
from toys import toy_blocks, toy_columns

from mmrev.reversible import couple, in_mode, run_chain, run_columns

each_memory = pytest.mark.parametrize("memory", ["recompute", "reverse"])


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(2, 4, 5, 3, dtype=torch.float64, requires_grad=True)


class Unsteady(nn.Module):
    """Does something else each time."""

    def __init__(self, module, change):
        super().__init__()
        self.module, self.change = module, change

    def forward(self, *x):
        return self.change(self.module(*x))


def scaling(draw):
    return lambda y: y * draw()


def scaling_by_its_own_generator():
    generator = torch.Generator()
    return scaling(lambda: torch.rand((), generator=generator).item())


def flipping():
    """Every second time: neither the elements nor any sum over them change."""
    flips = itertools.cycle([False, True])
    return lambda y: y.flip(-1) if next(flips) else y


CHANGES = {
    "a counter": lambda: scaling(itertools.count(2).__next__),
    "the random module": lambda: scaling(random.random),
    "a NumPy generator": lambda: scaling(np.random.default_rng(0).random),
    "a generator of its own": scaling_by_its_own_generator,
    "a flip": flipping,
}
each_change = pytest.mark.parametrize("change", CHANGES)


def refuses(number, count):
    return pytest.raises(
        RuntimeError,
        match=f"'reverse': Unsteady, module {number + 1} of the {count} that were "
        "called, did not compute the same",
    )


@each_change
@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("index", [0, 2, 4])
def test_columns_that_do_not_repeat_themselves(x, index, level, change):
    columns = toy_columns(5)
    levels = columns[index].levels
    levels[level] = Unsteady(levels[level], CHANGES[change]())
    number, count = 3 * index + level, 15

    def loss():
        states, tapped = run_columns(columns, x, None, (1,), in_mode("reverse"))
        return loss_of([*states, *tapped.values()])

    with refuses(number, count):
        loss().backward()
    with refuses(number, count):
        torch.autograd.grad(loss(), x)


@each_change
@pytest.mark.parametrize("coefficients", [(0.75, 0.25), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("index", [0, 1, 3, 5])
def test_chains_that_do_not_repeat_themselves(index, coefficients, change):
    blocks = toy_blocks(6)
    blocks[index] = Unsteady(blocks[index], CHANGES[change]())

    def loss():
        x = torch.randn(3, 7, 8)
        return loss_of(
            run_chain(blocks, x, torch.tensor(coefficients), in_mode("reverse"))
        )

    with refuses(index, 6):
        loss().backward()
    # A pass that ends at that module.
    with refuses(index, 6):
        weight = blocks[index].module.linear.weight
        torch.autograd.grad(loss(), weight)


@each_change
def test_a_pass_that_ends_after_what_does_not_repeat_itself(change):
    """Its gradients are right, as nothing that runs again depends on it."""
    blocks = toy_blocks(6)
    outcomes = []
    for way in (couple, in_mode("reverse")):
        random.seed(0)
        blocks[1] = Unsteady(toy_blocks(1)[0], CHANGES[change]())
        torch.manual_seed(3)
        x = torch.randn(3, 7, 8)
        loss = loss_of(run_chain(blocks, x, torch.tensor([0.75, 0.25]), way))
        weights = [block.linear.weight for block in blocks[2:]]
        outcomes.append(torch.autograd.grad(loss, weights))
    if change != "a generator of its own":  # nobody could seed that
        assert_same_bits(*outcomes)


@each_change
def test_rebuilding_for_a_tap_what_does_not_repeat_itself(x, change):
    """The backward pass itself never gets to that module."""
    columns = toy_columns(5)
    columns[3].levels[1] = Unsteady(columns[3].levels[1], CHANGES[change]())
    _, tapped = run_columns(columns, x, None, (1,), in_mode("reverse"))
    with refuses(10, 15):
        tapped[1].square().sum().backward()


def test_updates_too_small_to_change_a_state():
    """The states are right, the gradients that go to the module are not."""
    way, gain = in_mode("reverse"), torch.tensor(1.0, dtype=torch.bfloat16)
    draw = itertools.count(1).__next__
    modules = [nn.Linear(8, 8).to(torch.bfloat16) for _ in range(6)]
    modules[4] = Unsteady(modules[4], lambda y: y * 1e-6 * draw())
    x = torch.randn(9, 8, dtype=torch.bfloat16)
    older = way(modules[0], (x,), gain, None)
    newer = way(modules[1], (older,), gain, None)
    for module in modules[2:]:
        older, newer = newer, way(module, (newer,), gain, older)
    with refuses(4, 6):
        loss_of([older, newer]).backward()


@each_memory
def test_modules_that_do_less_the_second_time(x, memory):
    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.passes = iter([True, False])

        def forward(self, *x):
            return x[0].sin().cos() if next(self.passes) else x[0].sin()

    columns = toy_columns(3)
    columns[1].levels[1] = Skipping()
    states, _ = run_columns(columns, x, None, (), in_mode(memory))
    with pytest.raises(RuntimeError, match=f"{memory}': Skipping saved . tensors in"):
        loss_of(states).backward()


@each_memory
def test_modules_that_take_a_gradient(x, memory):
    class Sloped(nn.Module):
        def forward(self, *x):
            return torch.autograd.grad(x[0].pow(3).sum(), x[0], create_graph=True)[0]

    columns = toy_columns(3)
    columns[1].levels[1] = Sloped()
    with pytest.raises(RuntimeError, match="gradient was taken inside a module"):
        loss_of(run_columns(columns, x, None, (), in_mode(memory))[0]).backward()


def test_repeatable_again_after_an_error(x):
    columns = toy_columns(3)
    draw = iter([1.0, 2.0, 1.0, 1.0]).__next__
    columns[1].levels[1] = Unsteady(columns[1].levels[1], lambda y: y * draw())
    for error in (True, False):
        states, _ = run_columns(columns, x, None, (), in_mode("reverse"))
        if error:
            with refuses(4, 9):
                loss_of(states).backward()
        else:
            loss_of(states).backward()


def test_states_changed_in_place(x):
    columns = toy_columns(3)
    with torch.no_grad():
        previous, _ = run_columns(columns[:1], x)
    for find, name in (
        (lambda states: states[1], "the state after ToyLevel"),
        (lambda _: previous[2], "(the state before|what) ToyLevel( read)?"),
        (lambda _: previous[0], "the state before ToyLevel"),
        (lambda _: x, "what ToyLevel read"),
    ):
        states, _ = run_columns(columns[1:], x, previous, (), in_mode("reverse"))
        loss = loss_of(states)
        with torch.no_grad():
            find(states).zero_()
        with pytest.raises(RuntimeError, match=f"'reverse': {name} was .*in place"):
            loss.backward()


def test_a_state_changed_in_place_within_the_pass(x):
    columns = toy_columns(3)
    way = in_mode("reverse")
    states, _ = run_columns(columns[:2], x, None, (), way)
    with torch.no_grad():
        states[1].zero_()
    with pytest.raises(RuntimeError, match=r"the state after ToyLevel was .*in place"):
        loss_of(run_columns(columns[2:], x, states, (), way)[0]).backward()


@each_memory
@pytest.mark.parametrize("name", ["levels.1.conv.bias", "levels.0.ups.1.weight"])
def test_weights_changed_in_place(x, memory, name):
    columns = toy_columns(5)
    states, _ = run_columns(columns, x, None, (), in_mode(memory))
    with torch.no_grad():
        columns[2].get_parameter(name).clamp_(max=-1)
    said = name.removeprefix("levels.0.").removeprefix("levels.1.")
    with pytest.raises(RuntimeError, match=f"{memory}': {said} was .*in place"):
        loss_of(states).backward()


@each_memory
@pytest.mark.parametrize("training", [True, False])
def test_statistics_changed_in_place(x, memory, training):
    """Those of training are written, and never read."""
    columns = toy_columns(4, norm=nn.BatchNorm2d).train(training)
    states, _ = run_columns(columns, x, None, (), in_mode(memory))
    with torch.no_grad():
        columns[1].levels[1].norm.running_mean += 1
    if training:
        loss_of(states).backward()
        return
    with pytest.raises(RuntimeError, match=r"norm.running_mean was .*in place"):
        loss_of(states).backward()


@each_memory
def test_mode_of_training_changed(x, memory):
    columns = toy_columns(4)
    states, _ = run_columns(columns, x, None, (), in_mode(memory))
    columns.eval()
    with pytest.raises(RuntimeError, match=r"training was replaced or changed"):
        loss_of(states).backward()


def test_coefficients_changed_in_place():
    coefficients = torch.tensor([0.75, 0.25])
    x = torch.randn(3, 7, 8)
    loss = loss_of(run_chain(toy_blocks(4), x, coefficients, in_mode("reverse")))
    coefficients.fill_(0.5)
    with pytest.raises(RuntimeError, match=r"'reverse': gain was .*in place"):
        loss.backward()


def test_random_numbers_of_torch_are_repeated(x):
    """That needs no excuse; a chain of dropouts and noise is exact."""

    class Noisy(nn.Module):
        def forward(self, x):
            return nn.functional.rrelu(x + torch.randn_like(x), training=True)

    blocks = nn.ModuleList(Noisy() for _ in range(6))
    inputs = torch.randn(3, 7, 8, requires_grad=True)
    step = chain_step(blocks, inputs, torch.tensor([0.75, 0.25]))
    assert_same_bits(step(in_mode("reverse")), step(couple))
    columns = toy_columns(4, dropout=0.5)
    step = columns_step(columns, x)
    assert_same_bits(step(in_mode("reverse")), step(couple))
