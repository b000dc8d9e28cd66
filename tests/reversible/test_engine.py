"""Every memory mode computes what the plain loop computes."""

import copy
import gc
import weakref

import pytest
import torch
from tolerances import assert_close
from torch import nn
from toy_columns import toy_columns

from mmrev.reversible import ColumnEngine, effective_gain, run_columns
from mmrev.reversible import engine as engine_module
from mmrev.reversible.engine import ERROR_BOUNDS, choose_period

MODES = [("recompute", "auto"), ("reverse", 1), ("reverse", 3), ("reverse", "auto")]
each_mode = pytest.mark.parametrize(("memory", "anchor_every"), MODES)


def quiet(_: str) -> None:
    pass


def loss_of(states, tapped):
    """Unlike weights, so that no two gradients are equal by symmetry."""
    terms = [(i + 1) * state.float().square().mean() for i, state in enumerate(states)]
    terms += [(state.float() ** 3).mean() for state in tapped.values()]
    return sum(terms)


def run(columns, x, memory, anchor_every="auto", taps=(1, 4), seed=7):
    """Loss, gradients of x and all parameters, and the generator state after."""
    columns.zero_grad()
    x = x.detach().requires_grad_(x.requires_grad)
    torch.manual_seed(seed)
    engine = ColumnEngine(memory, anchor_every, report=quiet)
    loss = loss_of(*engine(columns, x, taps=taps))
    loss.backward()
    grads = [x.grad] + [p.grad for p in columns.parameters()]
    grads = [None if g is None else g.clone() for g in grads]
    return loss.detach(), grads, torch.get_rng_state()


def assert_same(actual, expected):
    assert_close(actual[0], expected[0])
    for grad, reference in zip(actual[1], expected[1], strict=True):
        assert (grad is None) == (reference is None)
        if reference is not None:
            assert_close(grad, reference)
    assert torch.equal(actual[2], expected[2])


@pytest.fixture
def columns():
    return toy_columns(5)


@pytest.fixture
def x():
    return torch.randn(2, 4, 5, 3, dtype=torch.float64, requires_grad=True)


@each_mode
def test_equals_store_with_dropout_and_taps(columns, x, memory, anchor_every):
    expected = run(columns, x, "store")
    assert_same(run(columns, x, memory, anchor_every), expected)


def test_store_is_the_plain_loop(columns, x):
    torch.manual_seed(7)
    plain = loss_of(*run_columns(columns, x, taps=(1, 4)))
    assert torch.equal(run(columns, x, "store")[0], plain.detach())


@each_mode
def test_gradcheck(memory, anchor_every):
    columns = toy_columns(4, channels=2, dropout=0.0)
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    parameters = [p for p in columns.parameters() if p.requires_grad]

    def function(x, *_):
        states, tapped = ColumnEngine(memory, anchor_every, quiet)(columns, x, taps=[1])
        return *states, *tapped.values()

    assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=True)


@each_mode
def test_frozen_input_and_frozen_columns(columns, x, memory, anchor_every):
    columns[1].requires_grad_(False)
    columns[3].levels[0].requires_grad_(False)
    x = x.detach()
    expected = run(columns, x, "store")
    assert expected[1][0] is None
    assert_same(run(columns, x, memory, anchor_every), expected)


@each_mode
def test_continues_from_given_states(columns, x, memory, anchor_every):
    with torch.no_grad():
        states, _ = run_columns(columns[:2], x)

    def gradients(memory):
        columns.zero_grad()
        torch.manual_seed(3)
        engine = ColumnEngine(memory, anchor_every, quiet)
        loss_of(*engine(columns[2:], x, states)).backward()
        return [p.grad.clone() for p in columns[2:].parameters()]

    for grad, expected in zip(gradients(memory), gradients("store"), strict=True):
        assert_close(grad, expected)


@each_mode
def test_loss_on_a_tap_or_one_level_alone(columns, x, memory, anchor_every):
    def gradients(memory, choose):
        torch.manual_seed(3)
        engine = ColumnEngine(memory, anchor_every, quiet)
        value = choose(*engine(columns, x, taps=[1])).square().sum()
        inputs = [x, *(p for p in columns.parameters() if p.requires_grad)]
        return torch.autograd.grad(value, inputs, allow_unused=True)

    for choose in (lambda _, tapped: tapped[1], lambda states, _: states[0]):
        actual, expected = gradients(memory, choose), gradients("store", choose)
        for grad, reference in zip(actual, expected, strict=True):
            assert (grad is None) == (reference is None)
            if grad is not None:
                assert_close(grad, reference)


@each_mode
@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm2d])
def test_two_forwards_then_one_backward_twice(x, norm, memory, anchor_every):
    columns = toy_columns(5, norm=norm)

    def gradients(memory):
        columns.zero_grad()
        torch.manual_seed(5)
        engine = ColumnEngine(memory, anchor_every, quiet)
        loss = loss_of(*engine(columns, x)) * loss_of(*engine(columns, 2 * x))
        loss.backward(retain_graph=True)
        loss.backward()  # accumulates
        return [p.grad.clone() for p in columns.parameters() if p.requires_grad]

    for grad, expected in zip(gradients(memory), gradients("store"), strict=True):
        assert_close(grad, expected)


@each_mode
def test_gradients_of_chosen_tensors(columns, x, memory, anchor_every):
    wanted = [x, columns[3].gains[1], columns[0].levels[0].conv.weight]

    def gradients(memory):
        torch.manual_seed(5)
        engine = ColumnEngine(memory, anchor_every, quiet)
        return torch.autograd.grad(loss_of(*engine(columns, x)), wanted)

    for grad, expected in zip(gradients(memory), gradients("store"), strict=True):
        assert_close(grad, expected)
    assert all(p.grad is None for p in columns.parameters())


@each_mode
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(memory, anchor_every, dtype):
    # Reversal amplifies the rounding of half precision, so compare where it is exact.
    anchor_every = 1
    columns = toy_columns(5, dtype=torch.float32)
    x = torch.randn(2, 4, 5, 3, requires_grad=True)

    with torch.autocast("cpu", dtype):
        states, _ = ColumnEngine(memory, anchor_every, quiet)(columns, x)
        assert {state.dtype for state in states} == {torch.float32}

    def autocast_run(memory):
        with torch.autocast("cpu", dtype):
            return run(columns, x, memory, anchor_every)

    assert_same(autocast_run(memory), autocast_run("store"))


@each_mode
def test_backward_outside_autocast_and_scaled(memory, anchor_every):
    columns = toy_columns(4, dtype=torch.float32)
    x = torch.randn(2, 4, 5, 3)

    def step(memory):
        model = copy.deepcopy(columns)
        optimizer = torch.optim.SGD((p for p in model.parameters()), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(*ColumnEngine(memory, 1, quiet)(model, x))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        return list(model.parameters())

    changed = False
    for new, expected, old in zip(
        step(memory), step("store"), columns.parameters(), strict=True
    ):
        assert_close(new, expected)
        changed |= not torch.equal(new, old)
    assert changed


@each_mode
def test_batch_norm_counts_each_batch_once(memory, anchor_every):
    plain = toy_columns(4, norm=nn.BatchNorm2d)
    saving = copy.deepcopy(plain)
    x = torch.randn(3, 4, 5, 3, dtype=torch.float64)
    run(plain, x, "store", taps=())
    run(saving, x, memory, anchor_every, taps=())
    for (name, expected), actual in zip(
        plain.named_buffers(), saving.buffers(), strict=True
    ):
        assert_close(actual.double(), expected.double())
        assert "num_batches" not in name or actual.item() == 1


def test_reverse_refuses_states_changed_in_place(columns, x):
    with torch.no_grad():
        previous, _ = run_columns(columns[:1], x)
    for find, name in (
        (lambda states: states[1], "returned state 1"),
        (lambda _: previous[2], "previous state 2"),
        (lambda _: x, "the input of the columns"),
    ):
        states, _ = ColumnEngine("reverse", 2, quiet)(columns[1:], x, previous)
        loss = loss_of(states, {})
        with torch.no_grad():
            find(states).zero_()
        with pytest.raises(RuntimeError, match=f"'reverse': {name} was .*in place"):
            loss.backward()


@pytest.mark.parametrize(
    ("memory", "name"),
    [
        ("recompute", "levels.1.conv.bias"),
        ("recompute", "levels.0.ups.1.weight"),
        ("reverse", "levels.1.conv.bias"),
        ("reverse", "levels.0.ups.1.weight"),
        ("reverse", "gains.1"),
    ],
)
def test_refuses_weights_changed_in_place(columns, x, memory, name):
    states, _ = ColumnEngine(memory, 3, quiet)(columns, x)
    with torch.no_grad():
        columns[2].get_parameter(name).clamp_(max=-1)
    said = name.removeprefix("levels.0.").removeprefix("levels.1.")
    with pytest.raises(RuntimeError, match=f"{memory}': {said} was .*in place"):
        loss_of(states, {}).backward()


@pytest.mark.parametrize("backward", [True, False])
def test_nothing_outlives_the_loss(columns, x, monkeypatch, backward):
    alive = []

    class Segment(engine_module.Segment):
        def __init__(self, *args):
            super().__init__(*args)
            alive.append(weakref.ref(self))

    monkeypatch.setattr(engine_module, "Segment", Segment)
    gc.disable()
    try:
        loss = loss_of(*ColumnEngine("reverse", 2, quiet)(columns, x))
        assert len(alive) == 3
        if backward:
            loss.backward()  # the graph lets go, as with saved tensors
        else:
            del loss
        assert not any(reference() for reference in alive)
    finally:
        gc.enable()


def test_no_graph_no_work(columns, x):
    engine = ColumnEngine("reverse", 2, quiet)
    with torch.no_grad():
        states, _ = engine(columns, x)
    assert engine.passes == 0
    assert not states[0].requires_grad


def test_large_error_changes_to_recompute(x):
    columns = toy_columns(12, gain=0.05, dropout=0.0, dtype=torch.float32)
    x = x.detach().float()
    said = []
    engine = ColumnEngine("reverse", 12, said.append)
    for _ in range(2):
        loss_of(*engine(columns, x)).backward()
    assert engine.memory == "recompute"
    assert engine.largest_error > ERROR_BOUNDS[torch.float32]
    assert "bound" in said[-1]
    assert "memory='recompute'" in said[-1]


def test_errors_of_large_half_precision_states_are_seen():
    """The norm of a state may be past fp16's range."""
    columns = toy_columns(2, dropout=0.0, dtype=torch.float16)
    x, *states = 1000 * torch.randn(4, 2, 4, 64, 64).half()
    assert states[0].norm().isinf()
    engine = ColumnEngine("reverse", 1, quiet)
    for _ in range(2):
        loss_of(*engine(columns[1:], x, states)).backward()
    assert 0 < engine.largest_error <= ERROR_BOUNDS[torch.float16]


@pytest.mark.parametrize("gain", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_automatic_period_keeps_its_bound(gain, dtype):
    columns = toy_columns(16, channels=16, gain=gain, dropout=0.0, dtype=torch.float32)
    engine = ColumnEngine("reverse", "auto", quiet)
    for _ in range(2):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            states, _ = engine(columns, torch.randn(2, 16, 6, 6))
        loss_of(states, {}).backward()
    assert engine.memory == "reverse"
    assert 0 < engine.largest_error <= ERROR_BOUNDS[dtype]


def test_automatic_period_grows_with_gain_and_precision():
    def period(gain, dtype):
        return choose_period(toy_columns(16, gain=gain), dtype)

    fp32 = torch.float32
    assert 1 < period(0.5, fp32) < period(0.7, fp32) < period(0.9, fp32)
    assert period(1.0, fp32) == 16
    assert period(0.5, torch.bfloat16) == 2
    assert period(0.9, torch.bfloat16) == 4


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(0.5, 0.5), (-0.5, -0.5), (1e-4, 1e-3), (-1e-4, -1e-3), (0.0, 1e-3), (-0.0, 1e-3)],
)
def test_effective_gain(gain, expected):
    parameter = torch.tensor([gain], dtype=torch.float64, requires_grad=True)
    effective_gain(parameter).backward()
    assert effective_gain(parameter).item() == pytest.approx(expected)
    assert parameter.item() == gain
    assert parameter.grad.item() == 1  # a gain at the floor can leave it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": "save"}, "store, recompute, reverse, got 'save'"),
        ({"memory": True}, "got True"),
        ({"anchor_every": 0}, "number of columns >= 1, got 0"),
        ({"anchor_every": "often"}, "got 'often'"),
    ],
)
def test_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ColumnEngine(**settings)


@pytest.mark.parametrize("memory", ["recompute", "reverse"])
def test_compiles_in_one_graph_that_keeps_less(memory):
    columns = toy_columns(2, dropout=0.0, norm=nn.BatchNorm2d)
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)

    def gradients(call):
        columns.zero_grad()
        states, tapped = call(columns, x, taps=[0])
        loss_of(states, tapped).backward(retain_graph=True)
        return states, [p.grad for p in columns.parameters() if p.requires_grad]

    torch.compiler.reset()
    engine = ColumnEngine(memory, 1, quiet)
    compiled = torch.compile(engine, backend="aot_eager", fullgraph=True)
    states, grads = gradients(compiled)
    stored = []
    with torch.autograd.graph.saved_tensors_hooks(stored.append, lambda _: None):
        run_columns(columns, x)
    kept = [t for t in states[0].grad_fn.saved_tensors if t.shape == x.shape]
    assert len(kept) < sum(t.shape == x.shape for t in stored) / 2
    for grad, expected in zip(grads, gradients(run_columns)[1], strict=True):
        assert_close(grad, expected)
    assert all(b == 3 for name, b in columns.named_buffers() if "num_batches" in name)
