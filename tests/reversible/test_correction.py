"""Corrections give back a state bit for bit, whatever it was."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import assert_same_bits, bits

from mmrev.reversible import correction
from mmrev.reversible.correction import INTEGERS, Correction, fingerprint, is_dense

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
GAINS = [0.5, 0.9, -0.2, 1.0, 1e-3, 0.0, -0.0, float("inf"), float("nan")]
SHAPES = [(0,), (), (1,), (2,), (3,), (5,), (1000,), (2, 3, 5, 7), (1, 4, 1, 1)]
dtypes = st.sampled_from(DTYPES)


def numbers(shape, dtype):
    return torch.randn(shape).to(dtype)


def patterns(shape, dtype):
    integers = INTEGERS[dtype.itemsize]
    info = torch.iinfo(integers)
    return torch.randint(info.min, info.max, shape, dtype=integers).view(dtype)


def extremes(shape, dtype):
    info = torch.finfo(dtype)
    values = [0.0, -0.0, info.tiny, info.tiny / 2, -info.tiny / 4, info.max, info.min]
    values = torch.tensor([*values, float("inf"), float("-inf"), float("nan"), 1.0])
    return values.to(dtype)[torch.randint(len(values), shape)]


kinds = st.sampled_from([numbers, patterns, extremes])


def both_ways(old, state, update, gain):
    """A correction made at once, and one whose lengths arrive late."""
    at_once = Correction(old, state, update, gain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "is_late", lambda device: True)
        late = Correction(old, state, update, gain)
    assert (at_once.is_late, late.is_late) == (False, True)
    return at_once, late


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(SHAPES),
    *[dtypes] * 3,
    *[kinds] * 3,
    st.sampled_from(GAINS),
    st.booleans(),
)
def test_gives_back_every_bit(
    seed, shape, dtype, update_dtype, gain_dtype, first, second, third, gain, coupled
):
    torch.manual_seed(seed)
    old, update = first(shape, dtype), second(shape, update_dtype)
    gain = torch.tensor(gain, dtype=gain_dtype)
    state = torch.addcmul(update, gain, old)
    if not coupled:  # no state that a coupling gives, but the code does not know
        state = third(shape, state.dtype)
    at_once, late = both_ways(old, state, update, gain)
    for made in (at_once, late):
        size = made.finish()
        assert size == made.finish()
        assert size == at_once.finish()
        found = made.old(state, update, gain)
        assert_same_bits([found], [old])
    made = at_once._packed, *at_once._lists
    assert_same_bits([late._packed, *late._lists], made)


@pytest.mark.parametrize("distance", [0, 1, 2, 126, 127, 128, 129, 2**14, 2**15 - 1])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_distance_takes_the_bytes_it_must(dtype, sign, distance):
    """A byte for four elements, one more for a far one, its size for the farthest.

    The estimate of `old` is 1, from which `old` is a number of steps away.
    """
    count = 1000
    state, update = torch.ones(count, dtype=dtype), torch.zeros(count, dtype=dtype)
    old = state.clone()
    bits(old)[::10] += sign * distance
    gain = torch.ones((), dtype=dtype)
    far = 0 if distance <= 1 else 1 if distance <= 127 else 1 + dtype.itemsize
    for made in both_ways(old, state, update, gain):
        assert made.finish() == count / 4 + count / 10 * far
        assert_same_bits([made.old(state, update, gain)], [old])


@pytest.mark.parametrize(
    "lay",
    [
        lambda t: t,
        lambda t: t.contiguous(memory_format=torch.channels_last),
        lambda t: t[:1],
        lambda t: t[:1, :1],
    ],
)
@pytest.mark.parametrize("other", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_layout(lay, other):
    torch.manual_seed(0)
    old = lay(torch.randn(2, 4, 3, 5))
    update = torch.randn(old.shape).contiguous(memory_format=other)
    gain = torch.tensor([0.5, 0.2, -0.9, 1e-3])[: old.size(1), None, None]
    state = torch.addcmul(update, gain, old)
    assert is_dense(old)
    for made in both_ways(old, state, update, gain):
        assert_same_bits([made.old(state, update, gain)], [old])


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(1, 8).expand(4, 8),
        torch.randn(4, 8)[:, ::2],
        torch.randn(4, 8).t(),
        torch.randn(2, 4, 6, 5)[:, :, ::2],
        torch.randn(2, 4, 6, 5).transpose(2, 3),
        torch.randn(4, 8)[1:],  # not aligned
    ],
)
def test_knows_what_is_not_dense(tensor):
    assert not is_dense(tensor)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(SHAPES[2:]), dtypes, dtypes, kinds)
def test_every_change_of_an_update_shows(seed, shape, dtype, update_dtype, kind):
    torch.manual_seed(seed)
    update = kind(shape, update_dtype)
    state = torch.addcmul(update, torch.tensor(0.5), kind(shape, dtype))
    before = fingerprint(update, state)
    assert fingerprint(update.clone(), state.clone()) == before
    elements = bits(update).view(-1)
    place, bit = (
        torch.randint(count, ()).item()
        for count in (len(elements), 8 * update_dtype.itemsize)
    )
    elements[place] ^= torch.ones_like(elements[0]) << bit
    assert fingerprint(update, state) != before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("update_dtype", DTYPES)
def test_a_change_of_all_of_an_update_shows(dtype, update_dtype):
    torch.manual_seed(0)
    update = torch.randn(2, 4, 3, 5).to(update_dtype)
    old = torch.randn(2, 4, 3, 5).to(dtype)
    state = torch.addcmul(update, torch.tensor(0.5, dtype=dtype), old)
    before = fingerprint(update, state)
    changed = [-update, 2 * update, update / 4, update.clamp(min=0), 0 * update]
    changed += [update.flip(dim) for dim in range(4)]
    changed += [update.roll(1, dim) for dim in range(4)]
    assert before not in [fingerprint(other, state) for other in changed]
    for layout in (torch.channels_last, torch.contiguous_format):
        assert fingerprint(update.contiguous(memory_format=layout), state) == before
