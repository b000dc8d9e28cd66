"""Every memory mode computes, bit for bit, what the plain loop computes."""

import pytest
import torch
from outcomes import assert_same_bits, chain_step, columns_step, step_of
from torch import nn
from toys import PRECISIONS, ChannelNorm, ToyBlock, toy_blocks, toy_columns

from mmrev.reversible import MEMORY_MODES, couple, in_mode, run_chain, run_columns

MIXED = [0.9, -0.5, 0.2, -1.7]
FLOOR = [1e-3, 0.0, -1e-3, -0.0]
GAINS = [0.2, 0.5, 0.9, MIXED, FLOOR]
COEFFICIENTS = [(1.0, 0.0), (0.75, 0.25), (0.5, 0.5), (0.0, 1.0), (1.0, 1e-3)]


def image(dtype=torch.float32, norm=1.0):
    torch.manual_seed(1)
    return (norm * torch.randn(2, 4, 5, 3)).to(dtype).requires_grad_()


def tokens(dtype=torch.float32):
    torch.manual_seed(1)
    return torch.randn(3, 7, 8).to(dtype).requires_grad_()


def assert_modes_agree(step):
    expected = step(couple)
    for memory in ("recompute", "reverse"):  # 'store' is what is expected
        assert_same_bits(step(in_mode(memory)), expected)
    return expected


def test_the_modes_are_three_and_store_is_the_plain_loop():
    assert MEMORY_MODES == ("store", "recompute", "reverse")
    assert in_mode("store") is couple


@pytest.mark.parametrize("gain", GAINS, ids=str)
@pytest.mark.parametrize("count", [1, 4, 8, 16, 32])
def test_columns(count, gain):
    columns = toy_columns(count, gain=gain, dtype=torch.float32)
    gradients = assert_modes_agree(columns_step(columns, image(), taps=(count // 2,)))
    assert all(g is None or g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("gain", GAINS, ids=str)
@pytest.mark.parametrize(("dtype", "autocast"), PRECISIONS, ids=str)
def test_columns_in_every_precision(dtype, autocast, gain):
    columns = toy_columns(6, gain=gain, dtype=dtype)
    outputs = assert_modes_agree(columns_step(columns, image(dtype), autocast=autocast))
    assert {state.dtype for state in outputs[:4]} == {dtype}


@pytest.mark.parametrize(("dtype", "autocast"), PRECISIONS, ids=str)
@pytest.mark.parametrize("scale", [1e-4, 30.0])
def test_updates_of_another_size_than_the_states(scale, dtype, autocast):
    columns = toy_columns(6, gain=MIXED, dtype=dtype, scale=scale)
    assert_modes_agree(columns_step(columns, image(dtype), autocast=autocast))


@pytest.mark.parametrize(("dtype", "autocast"), PRECISIONS, ids=str)
def test_states_of_norm_1000(dtype, autocast):
    columns = toy_columns(6, gain=0.9, dtype=dtype)
    torch.manual_seed(2)
    previous = [(1000 * torch.randn(2, 4, 5, 3)).to(dtype) for _ in range(3)]
    x = image(dtype, norm=1000.0)
    step = columns_step(columns[1:], x, previous, taps=(), autocast=autocast)
    assert assert_modes_agree(step)[0].abs().max() > 100


@pytest.mark.parametrize("norm", [nn.Identity, ChannelNorm])
@pytest.mark.parametrize(("dtype", "autocast"), PRECISIONS, ids=str)
def test_batches_padded_with_zeros(dtype, autocast, norm):
    columns = toy_columns(6, gain=0.5, norm=norm, dtype=dtype)
    for name, parameter in columns.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    x = image(dtype)
    with torch.no_grad():
        x[:, :, 1:] = 0
        x[1] = 0
    states = assert_modes_agree(columns_step(columns, x, autocast=autocast))[:3]
    assert all(not state[1].any() and state[0].any() for state in states)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize(("dtype", "autocast"), PRECISIONS, ids=str)
def test_what_is_not_finite(dtype, autocast, value):
    x = image(dtype)
    with torch.no_grad():
        x[0, 1, 2, 1] = value
    columns = toy_columns(6, norm=ChannelNorm, dtype=dtype)
    outputs = assert_modes_agree(columns_step(columns, x, autocast=autocast))
    assert outputs[0].isnan().any()
    assert not outputs[0].isnan().all()
    assert_modes_agree(columns_step(columns, torch.full_like(x, value)))


def test_states_that_overflow():
    columns = toy_columns(3, gain=2.0, dtype=torch.float16, scale=2e4)
    outputs = assert_modes_agree(columns_step(columns, image(torch.float16)))
    assert outputs[3].isinf().any()


@pytest.mark.parametrize(("dtype", "autocast"), PRECISIONS, ids=str)
def test_channels_last(dtype, autocast):
    layout = torch.channels_last
    columns = toy_columns(6, gain=0.5, dtype=dtype).to(memory_format=layout)
    x = image(dtype).detach().contiguous(memory_format=layout).requires_grad_()
    outputs = assert_modes_agree(columns_step(columns, x, autocast=autocast))
    assert outputs[0].is_contiguous(memory_format=layout)
    assert not outputs[0].is_contiguous()


def two_streams_step(modules, x):
    gain = torch.tensor(0.5)

    def forward(way, x):
        older = way(modules[0], (x,), gain, None)
        newer = way(modules[1], (older,), gain, None)
        for module in modules[2:]:
            older, newer = newer, way(module, (newer,), gain, older)
        return older, newer

    return step_of(forward, modules, x)


class Laid(nn.Module):
    """Gives what a block gives, laid out in another way."""

    def __init__(self, lay, block):
        super().__init__()
        self.block, self.lay = block, lay

    def forward(self, x):
        return self.lay(self.block(x))


LAYOUTS = [
    lambda y: y[:1, :1].clone().expand(y.shape),
    lambda y: y.transpose(1, 2).contiguous().transpose(1, 2),
    lambda y: torch.stack([y, y], -1)[..., 1],
    lambda y: torch.cat([y, y])[len(y) :],
    lambda y: y.flip(-1).as_strided(y.shape, y.stride()),
]


@pytest.mark.parametrize("other", [*LAYOUTS, lambda y: y])
@pytest.mark.parametrize("lay", LAYOUTS)
def test_states_of_any_layout(lay, other):
    """Two streams; both what comes first and what is added to it are laid out."""
    torch.manual_seed(0)
    modules = nn.ModuleList(
        Laid(lay if i < 4 else other, ToyBlock(8, 0.2, 0.5)) for i in range(8)
    )
    assert_modes_agree(two_streams_step(modules, tokens()))


@pytest.mark.parametrize("width", [5, 9])
def test_states_that_begin_where_no_new_tensor_does(width):
    """Matrix products may round otherwise there."""

    def lay(y):
        return torch.cat([y, y])[len(y) :]

    torch.manual_seed(0)
    modules = nn.ModuleList(nn.Linear(width, width) for _ in range(6))
    modules[0] = nn.Sequential(modules[0], Laid(lay, nn.Tanh()))
    assert_modes_agree(two_streams_step(modules, torch.randn(5, width)))


def test_tensors_that_threads_share():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        columns = toy_columns(4, channels=16, gain=0.5, dtype=torch.float32)
        x = torch.randn(2, 16, 48, 48, requires_grad=True)
        assert_modes_agree(columns_step(columns, x))
        blocks = toy_blocks(4, width=64)
        x = torch.randn(2, 1024, 64, requires_grad=True)
        assert_modes_agree(chain_step(blocks, x, torch.tensor([0.75, 0.25])))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("coefficients", COEFFICIENTS, ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9])
def test_chains(count, coefficients):
    step = chain_step(toy_blocks(count), tokens(), torch.tensor(coefficients))
    assert_modes_agree(step)


@pytest.mark.parametrize("coefficients", COEFFICIENTS, ids=str)
@pytest.mark.parametrize(("dtype", "autocast"), PRECISIONS, ids=str)
def test_chains_in_every_precision(dtype, autocast, coefficients):
    blocks = toy_blocks(6, dtype=dtype, scale=3.0)
    coefficients = torch.tensor(coefficients, dtype=dtype)
    step = chain_step(blocks, tokens(dtype), coefficients, autocast=autocast)
    assert_modes_agree(step)


def test_chain_at_its_start_is_the_ordinary_network():
    blocks, x = toy_blocks(4, dropout=0.0), tokens()
    (last, before, *_) = chain_step(blocks, x, torch.tensor([1.0, 0.0]))(couple)
    expected = [x]
    for block in blocks:
        expected.append(block(expected[-1]))
    assert torch.equal(last, expected[-1])
    assert torch.equal(before, expected[-2])


def test_chain_computes_its_recurrence():
    blocks, x = toy_blocks(3, dropout=0.0, dtype=torch.float64), tokens(torch.float64)
    a, b = 0.75, 0.25
    states = [x, x]
    for block in blocks:
        y = states[-1]
        states.append((block(y) - y) + a * y + b * states[-2])
    coefficients = torch.tensor([a, b], dtype=torch.float64)
    for actual, expected in zip(
        chain_step(blocks, x, coefficients)(couple)[:2], states[:-3:-1], strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_coefficients_get_gradients():
    blocks, x = toy_blocks(5), tokens()
    coefficients = nn.Parameter(torch.tensor([0.75, 0.25]))
    module = nn.ModuleList([blocks, nn.ParameterList([coefficients])])

    def forward(way, x):
        return run_chain(blocks, x, coefficients, way)

    gradients = assert_modes_agree(step_of(forward, module, x))
    assert (gradients[-2] != 0).all()


@pytest.mark.parametrize("memory", MEMORY_MODES)
def test_gradcheck(memory):
    columns = toy_columns(4, channels=2, dropout=0.0)
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    parameters = [columns[2].gains[0], columns[1].levels[0].conv.weight]

    def function(x, *_):
        states, tapped = run_columns(columns, x, None, [1], in_mode(memory))
        return *states, *tapped.values()

    assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("memory", ["save", True, None, "Reverse"])
def test_refuses_what_is_no_mode(memory):
    message = f"memory must be one of store, recompute, reverse, got {memory!r}"
    with pytest.raises(ValueError, match=message):
        in_mode(memory)
