"""The memory modes in whatever autograd and a training do with a network."""

import copy
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from outcomes import assert_same_bits, chain_step, columns_step, loss_of, step_of
from torch import nn
from torch.utils.checkpoint import checkpoint
from toys import LEVELS, toy_blocks, toy_columns

from mmrev.reversible import (
    MEMORY_MODES,
    couple,
    in_mode,
    in_modes,
    recompute,
    run_columns,
)

SAVING = [memory for memory in MEMORY_MODES if memory != "store"]
each_mode = pytest.mark.parametrize("memory", SAVING)


@pytest.fixture
def columns():
    return toy_columns(5)


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(2, 4, 5, 3, dtype=torch.float64, requires_grad=True)


def outputs_of(columns, x, way, previous=None):
    torch.manual_seed(5)
    states, tapped = run_columns(columns, x, previous, (1,), way)
    return [*states, *tapped.values()]


def trained(module):
    return [p for p in module.parameters() if p.requires_grad]


@each_mode
def test_frozen_input_and_frozen_columns(columns, x, memory):
    columns[1].requires_grad_(False)
    columns[3].levels[0].requires_grad_(False)
    for needs in (False, True):
        step = columns_step(columns, x.detach().requires_grad_(needs))
        outcome = step(in_mode(memory))
        assert (outcome[LEVELS + 1] is None) != needs
        assert_same_bits(outcome, step(couple))


@each_mode
@pytest.mark.parametrize("count", [1, 3, 5])
def test_first_columns_frozen(columns, x, memory, count):
    columns[:count].requires_grad_(False)
    step = columns_step(columns, x.detach())
    assert_same_bits(step(in_mode(memory)), step(couple))


@each_mode
def test_frozen_gains(columns, x, memory):
    for column in columns:
        column.gains.requires_grad_(False)
    step = columns_step(columns, x)
    assert_same_bits(step(in_mode(memory)), step(couple))


@each_mode
@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_chain_of_which_blocks_are_frozen(memory, frozen):
    blocks, coefficients = toy_blocks(5), torch.tensor([0.75, 0.25])
    blocks[frozen].requires_grad_(False)
    for needs in (False, True):
        x = torch.randn(3, 7, 8, requires_grad=needs)
        step = chain_step(blocks, x, coefficients)
        assert_same_bits(step(in_mode(memory)), step(couple))


@each_mode
def test_continues_from_given_states(columns, x, memory):
    first, rest = columns[:2], columns[2:]

    def gradients(way):
        before = outputs_of(first, x, couple)[:LEVELS]
        outputs = outputs_of(rest, x, way, before)
        return torch.autograd.grad(loss_of(outputs), [x, *trained(columns)])

    assert_same_bits(gradients(in_mode(memory)), gradients(couple))


CHOICES = {
    "a tap": lambda outputs: outputs[LEVELS],
    "the finest level": lambda outputs: outputs[0],
    "the coarsest level": lambda outputs: outputs[LEVELS - 1],
    "a tap after a level": lambda outputs: outputs[0] + outputs[LEVELS],
}


@each_mode
@pytest.mark.parametrize("choice", CHOICES)
def test_loss_on_a_part_of_the_outputs(columns, x, memory, choice):
    def gradients(way):
        value = CHOICES[choice](outputs_of(columns, x, way)).square().sum()
        return torch.autograd.grad(value, [x, *trained(columns)], allow_unused=True)

    assert_same_bits(gradients(in_mode(memory)), gradients(couple))


@each_mode
@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm2d])
def test_two_forwards_then_one_backward_twice(x, norm, memory):
    columns = toy_columns(5, norm=norm)

    def gradients(ways):
        columns.zero_grad()
        losses = [
            loss_of(outputs_of(columns, (i + 1) * x, way)) for i, way in enumerate(ways)
        ]
        loss = losses[0] * losses[1]
        loss.backward(retain_graph=True)
        loss.backward()  # accumulates
        return [p.grad for p in trained(columns)]

    ways = in_mode(memory), in_mode(memory)
    assert_same_bits(gradients(ways), gradients((couple, couple)))


@each_mode
def test_losses_one_after_the_other(columns, x, memory):
    def gradients(way):
        columns.zero_grad()
        outputs = outputs_of(columns, x, way)
        for output in reversed(outputs):  # a tap first, which what follows comes after
            output.square().sum().backward(retain_graph=True)
        return [p.grad for p in trained(columns)]

    assert_same_bits(gradients(in_mode(memory)), gradients(couple))


@each_mode
def test_one_way_for_two_networks(columns, x, memory):
    def gradients(way):
        first = outputs_of(columns[:3], x, way)
        second = outputs_of(columns[3:], first[0], way, first[:LEVELS])
        return torch.autograd.grad(loss_of(second), [x, *trained(columns)])

    assert_same_bits(gradients(in_mode(memory)), gradients(couple))


@pytest.mark.parametrize("modes", itertools.product(MEMORY_MODES, repeat=LEVELS))
def test_a_mode_for_each_level(columns, x, modes):
    step = columns_step(columns, x)
    assert_same_bits(step(in_modes(modes, columns[1].above)), step(couple))


@each_mode
def test_gradients_of_chosen_tensors(columns, x, memory):
    wanted = [x, columns[3].gains[1], columns[0].levels[0].conv.weight]

    def gradients(way, chosen):
        return torch.autograd.grad(loss_of(outputs_of(columns, x, way)), chosen)

    for chosen in (wanted, *([tensor] for tensor in wanted)):
        expected = gradients(couple, chosen)
        assert_same_bits(gradients(in_mode(memory), chosen), expected)
    assert all(p.grad is None for p in columns.parameters())


@each_mode
def test_gradients_of_gradients(columns, x, memory):
    """A penalty on the slope."""

    def gradients(way):
        columns.zero_grad()
        loss = loss_of(outputs_of(columns, x, way))
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        (loss + slope.square().sum()).backward()
        return [p.grad for p in trained(columns)]

    assert_same_bits(gradients(in_mode(memory)), gradients(couple))


@each_mode
def test_gradient_accumulation_under_autocast_with_a_scaler(memory):
    columns = toy_columns(4, dtype=torch.float32)
    x = torch.randn(2, 4, 5, 3)

    def step(memory, dtype):
        model = copy.deepcopy(columns)
        optimizer = torch.optim.SGD((p for p in model.parameters()), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for part in x.split(1):
            with torch.autocast("cpu", dtype):
                loss = loss_of(outputs_of(model, part, in_mode(memory)))
            scaler.scale(loss).backward()  # outside autocast
        scaler.step(optimizer)
        return [p.detach() for p in model.parameters()]

    for dtype in (torch.bfloat16, torch.float16):
        expected = step("store", dtype)
        assert_same_bits(step(memory, dtype), expected)
        assert not torch.equal(expected[0], columns[0].levels[0].conv.weight)


@each_mode
def test_batch_norm_counts_each_batch_once(memory):
    plain = toy_columns(4, norm=nn.BatchNorm2d)
    saving = copy.deepcopy(plain)
    x = torch.randn(3, 4, 5, 3, dtype=torch.float64)
    outcomes = [
        columns_step(columns, x)(way)
        for columns, way in ((plain, couple), (saving, in_mode(memory)))
    ]
    assert_same_bits(*outcomes)
    assert_same_bits(list(saving.buffers()), list(plain.buffers()))
    counts = [b for name, b in plain.named_buffers() if "num_batches" in name]
    assert len(counts) == 4 * LEVELS
    assert all(count == 1 for count in counts)


@each_mode
def test_hooks_see_each_gradient_once(columns, x, memory):
    def seen(way):
        columns.zero_grad()
        found = []
        handles = [
            level.register_full_backward_hook(lambda *args: found.append(args[2][0]))
            for column in columns
            for level in column.levels
        ]
        outputs = outputs_of(columns, x, way)
        outputs[LEVELS].register_hook(lambda gradient: 2 * gradient)
        outputs[0].retain_grad()
        loss_of(outputs).backward()
        for handle in handles:
            handle.remove()
        return [outputs[0].grad, *found, *(p.grad for p in trained(columns))]

    expected = seen(couple)
    assert len(expected) == 1 + len(columns) * LEVELS + len(trained(columns))
    assert_same_bits(seen(in_mode(memory)), expected)


class Within(nn.Module):
    """Runs a module in a way that keeps less, too."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *x):
        return self.call(self.module, *x).sin()


def reentrant(module, *x):
    return checkpoint(module, *x, use_reentrant=True)


def nonreentrant(module, *x):
    return checkpoint(module, *x, use_reentrant=False)


@each_mode
@pytest.mark.parametrize("call", [recompute, nonreentrant, reentrant])
def test_levels_that_keep_less_themselves(columns, x, memory, call):
    for column in columns:
        column.levels = nn.ModuleList(Within(level, call) for level in column.levels)
    step = columns_step(columns, x)
    assert_same_bits(step(in_mode(memory)), step(couple))


class Affine(nn.Module):
    """Saves its input as it is, for the gradient of the weight."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, *reads):
        return self.linear(reads[0]).sin() + sum(reads[1:])


@each_mode
@pytest.mark.parametrize("needs", [True, False])
def test_parameters_that_are_read(memory, needs):
    """As an input, a state before the first one or a gain."""
    torch.manual_seed(0)
    modules = nn.ModuleList(Affine() for _ in range(4))
    x, old = (nn.Parameter(torch.randn(8, 8), needs) for _ in range(2))
    gain = nn.Parameter(torch.tensor(0.5), needs)
    module = nn.ModuleList([modules, nn.ParameterList([x, old, gain])])

    def forward(way, _):
        states = [old, old]
        for part in modules:
            states.append(way(part, (x, states[-1]), gain, states[-2], gain - 1))
        return states[-2:]

    step = step_of(forward, module, torch.zeros(1))
    assert_same_bits(step(in_mode(memory)), step(couple))


def a_state_twice_replaced(way, parts, x, gain):
    state = way(parts[0], (x,), gain, None)
    one = way(parts[1], (x,), gain, state)
    two = way(parts[2], (x, one), gain, state)
    return one, way(parts[3], (x,), gain, two)


def a_replaced_state_read(way, parts, x, gain):
    state = way(parts[0], (x,), gain, None)
    one = way(parts[1], (x,), gain, state)
    two = way(parts[2], (state, x), gain, one)
    return (way(parts[3], (state, one), gain, two),)


def a_state_read_by_what_replaces_it(way, parts, x, gain):
    state = way(parts[0], (x,), gain, None)
    for part in parts[1:]:
        state = way(part, (state, x), gain, state)
    return (state,)


def a_state_read_twice(way, parts, x, gain):
    older, newer = x, way(parts[0], (x, x), gain, None)
    for part in parts[1:]:
        older, newer = newer, way(part, (newer, newer), gain, older)
    return older, newer


def states_that_are_one_tensor(way, parts, x, gain):
    one = way(nn.Identity(), (x,), gain, None)
    two = way(nn.Identity(), (one,), gain, None)
    three = way(parts[0], (x, two), gain, one)
    four = way(parts[1], (three,), gain, two)
    return way(parts[2], (four, x), gain, three), way(parts[3], (x,), gain, four)


def states_and_what_is_made_of_them(way, parts, x, gain):
    older, newer = x, way(parts[0], (x,), gain, None)
    for part in parts[1:]:
        older, newer = newer, way(part, (newer.flip(0), 2 * newer), gain, older)
    return older, newer.relu()


GRAPHS = [
    a_state_twice_replaced,
    a_replaced_state_read,
    a_state_read_by_what_replaces_it,
    a_state_read_twice,
    states_that_are_one_tensor,
    states_and_what_is_made_of_them,
]


@each_mode
@pytest.mark.parametrize("needs", [True, False])
@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_that_are_no_columns(graph, needs, memory):
    torch.manual_seed(0)
    parts = nn.ModuleList(Affine() for _ in range(4))
    gain = torch.tensor(0.5)
    x = torch.randn(8, 8, requires_grad=needs)

    def forward(way, x):
        return graph(way, parts, x, gain)

    step = step_of(forward, parts, x)
    assert_same_bits(step(in_mode(memory)), step(couple))


@each_mode
def test_modules_that_look_whether_gradients_are_wanted(columns, x, memory):
    """Such as attention, which has other kernels without."""

    class Looking(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *x):
            wanted = torch.is_grad_enabled() and x[0].requires_grad
            return self.module(*x) * (1.0 if wanted else 1.25)

    for column in columns:
        column.levels = nn.ModuleList(map(Looking, column.levels))

    def gradients(way):
        tap = outputs_of(columns, x, way)[LEVELS]
        return torch.autograd.grad(tap.sum(), [x, *trained(columns)], allow_unused=True)

    assert_same_bits(gradients(in_mode(memory)), gradients(couple))


def in_a_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def kept_elsewhere(network, x):
    with torch.autograd.graph.save_on_cpu():
        return network(x)


AROUND = {
    "recompute": recompute,
    "checkpoint": nonreentrant,
    "reentrant checkpoint": reentrant,
    "offload": kept_elsewhere,
    "another thread": lambda network, x: in_a_thread(lambda: network(x)),
}


@each_mode
@pytest.mark.parametrize("around", AROUND)
def test_whole_networks_within_another_way(columns, x, memory, around):
    class Network(nn.Module):
        def __init__(self, way):
            super().__init__()
            self.columns, self.way = columns, way

        def forward(self, x):
            states, _ = run_columns(self.columns, x, None, (), self.way())
            return loss_of(states)

    def gradients(call, way):
        columns.zero_grad()
        torch.manual_seed(5)
        loss = call(Network(way), x)
        in_a_thread(loss.backward)
        return [p.grad for p in trained(columns)]

    expected = gradients(lambda network, x: network(x), lambda: couple)
    actual = gradients(AROUND[around], lambda: in_mode(memory))
    assert_same_bits(actual, expected)


@each_mode
def test_no_graph_no_work(columns, x, memory):
    with torch.no_grad():
        assert in_mode(memory) is couple
    with torch.inference_mode():
        assert in_mode(memory) is couple


@pytest.mark.parametrize("memory", SAVING)
def test_compiles_in_one_graph_that_keeps_less(memory):
    columns = toy_columns(2, dropout=0.0, norm=nn.BatchNorm2d)
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)

    def run(columns, x, memory):
        return run_columns(columns, x, None, [0], in_mode(memory))

    def gradients(call):
        columns.zero_grad()
        states, tapped = call(columns, x, memory)
        loss_of([*states, *tapped.values()]).backward(retain_graph=True)
        return states, [p.grad for p in trained(columns)]

    torch.compiler.reset()
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    states, grads = gradients(compiled)
    stored = []
    with torch.autograd.graph.saved_tensors_hooks(stored.append, lambda _: None):
        run_columns(columns, x)
    kept = [t for t in states[0].grad_fn.saved_tensors if t.shape == x.shape]
    assert len(kept) < sum(t.shape == x.shape for t in stored) / 2
    expected = gradients(lambda *args: run(*args[:2], "store"))[1]
    torch.testing.assert_close(grads, expected, rtol=0, atol=1e-12)
    assert all(b == 3 for name, b in columns.named_buffers() if "num_batches" in name)
