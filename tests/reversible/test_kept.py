"""What a pass in reverse keeps: last states, corrections, and nothing for good."""

import gc
import weakref

import pytest
import torch
from outcomes import assert_same_bits, chain_step, columns_step, loss_of
from toys import LEVELS, toy_blocks, toy_columns

from mmrev.measure.memory import peak_memory
from mmrev.reversible import correction, couple, in_mode, run_chain, run_columns
from mmrev.reversible.reverse import UNTOLD

SIZE = 32
STATE = 4 * 8 * SIZE**2
COUNTS = 4, 12


def growth(peak):
    """Bytes of one more of what the step has, as the peak tells them."""
    few, many = map(peak, COUNTS)
    return (many - few) / (COUNTS[1] - COUNTS[0])


def columns_peak(memory, frozen=False, **settings):
    def peak(count):
        columns = toy_columns(
            count, 8, dropout=0.0, dtype=torch.float32, **settings
        ).requires_grad_(not frozen)
        columns[-1].requires_grad_()
        x = torch.randn(1, 8, SIZE, SIZE)

        def step():
            states, _ = run_columns(columns, x, None, (), in_mode(memory))
            parameters = [p for p in columns.parameters() if p.requires_grad]
            torch.autograd.grad(loss_of(states), parameters, allow_unused=True)

        return peak_memory(step)

    return peak


@pytest.mark.parametrize(
    ("gain", "share"), [(0.9, 0.1), (0.5, 0.13), (0.2, 0.2), (1e-3, 1.02)]
)
def test_a_further_column_costs_a_share_of_its_states(gain, share):
    gradients = 4 * sum(
        p.numel() for p in toy_columns(2, 8)[1].parameters() if p.requires_grad
    )
    further = growth(columns_peak("reverse", gain=gain)) - gradients
    assert 0.0625 < further / (LEVELS * STATE) <= share
    assert growth(columns_peak("recompute", gain=gain)) > LEVELS * STATE


def test_a_further_frozen_column_costs_nothing():
    assert growth(columns_peak("reverse", frozen=True)) == 0


@pytest.mark.parametrize(
    ("coefficients", "share"),
    [((0.0, 1.0), 0.2), ((0.5, 0.5), 0.25), ((1.0, 0.0), 1.02)],
)
def test_a_further_block_costs_a_share_of_its_state(coefficients, share):
    def peak(count):
        blocks = toy_blocks(count, width=8, dropout=0.0)
        x = torch.randn(SIZE**2, 8)

        def step():
            way = in_mode("reverse")
            states = run_chain(blocks, x, torch.tensor(coefficients), way)
            torch.autograd.grad(loss_of(states), list(blocks.parameters()))

        return peak_memory(step)

    gradients = 4 * sum(p.numel() for p in toy_blocks(1, 8).parameters())
    assert 0.0625 < (growth(peak) - gradients) / STATE <= share


def test_a_device_that_tells_late(monkeypatch):
    """As a GPU, which is not waited for while the columns run."""
    columns = toy_columns(6, gain=0.5, dtype=torch.float32)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    step = columns_step(columns, x)
    expected = step(couple)
    monkeypatch.setattr(correction, "is_late", lambda device: True)
    way = in_mode("reverse")
    reversal = way.__self__
    run_columns(columns, x, None, (), way)
    last = len(columns) * LEVELS
    dropped = last - LEVELS - UNTOLD
    assert set(reversal._kept) == set(range(dropped, last))
    assert list(reversal._untold) == list(range(dropped, dropped + UNTOLD))
    untold = [reversal._corrections[number] for number in reversal._untold]
    assert all(made._lists is None for made in untold)
    assert_same_bits(step(in_mode("reverse")), expected)
    coefficients = torch.tensor([0.5, 0.5])
    step = chain_step(toy_blocks(9), torch.randn(3, 7, 8), coefficients)
    assert_same_bits(step(in_mode("reverse")), step(couple))


@pytest.mark.parametrize("late", [True, False])
def test_states_that_cost_less_than_corrections_are_kept(monkeypatch, late):
    monkeypatch.setattr(correction, "is_late", lambda device: late)
    blocks, way = toy_blocks(6), in_mode("reverse")
    loss = loss_of(run_chain(blocks, torch.randn(9, 8), torch.tensor([1.0, 0.0]), way))
    loss.backward(retain_graph=True)
    assert not way.__self__._corrections
    assert set(way.__self__._kept) == set(range(6))


@pytest.mark.parametrize("backward", [True, False])
def test_nothing_outlives_the_graph(backward):
    columns = toy_columns(5)
    image = torch.randn(2, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    gc.disable()
    try:
        way = in_mode("reverse")
        alive = weakref.ref(way.__self__)
        found = []
        image.register_hook(lambda gradient: found.append(alive()))
        x = image.sin()  # a stem
        loss = loss_of(run_columns(columns, x, None, (), way)[0])
        del way
        assert alive() is not None
        if backward:
            loss.backward()  # the graph lets go, as with saved tensors
            assert found == [None]
        else:
            del loss
        assert alive() is None
    finally:
        gc.enable()


def test_no_rebuilt_state_outlives_a_pass():
    """Of a graph that is kept for another one."""
    columns = toy_columns(5, dropout=0.0)
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    way = in_mode("reverse")
    loss = loss_of(run_columns(columns, x, None, (), way)[0])
    for _ in range(2):
        loss.backward(retain_graph=True)
        assert not way.__self__._rebuilt
