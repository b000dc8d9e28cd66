"""What is kept between calls never comes from, or gets into, a recording."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from mmrev.models.layers.keeping import kept
from mmrev.models.layers.parameter_cache import ParameterCache

builds = []


@kept(maxsize=2)
def ramp(length, device):
    builds.append(length)
    return torch.arange(float(length), device=device)


class Keeper(nn.Module):
    """Adds what follows from a size, and what follows from a parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)
        self.cache = ParameterCache()

    def forward(self, x):
        return x + ramp(3, x.device) + self.cache.get([self.weight], self.double)

    def double(self):
        builds.append("double")
        return 2 * self.weight


@pytest.fixture
def keeper():
    builds.clear()
    ramp.cache_clear()
    return Keeper()


def compile_it(module, x):
    torch.compile(module, backend="eager", fullgraph=True)(x)


def make_it_fake(module, x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        module(mode.from_tensor(x))


def count_its_flops(module, x):
    with FlopCounterMode(display=False):
        module(x)


def capture(module, x):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        module(x)


RECORDINGS = {
    "torch.compile": compile_it,
    "torch.export": lambda module, x: torch.export.export(module, (x,)),
    # To check, it would also call the module without recording.
    "torch.jit.trace": lambda module, x: torch.jit.trace(
        module, (x,), check_trace=False
    ),
    "make_fx": lambda module, x: make_fx(module)(x),
    "fake tensors": make_it_fake,
    "FLOPs": count_its_flops,
    "CUDA graph": capture,
}


@pytest.mark.parametrize("record", RECORDINGS.values(), ids=RECORDINGS)
def test_a_recording_leaves_nothing_behind(keeper, record):
    record(keeper, torch.zeros(3))
    builds.clear()
    result = keeper(torch.zeros(3))
    assert type(result) is torch.Tensor
    assert result.tolist() == [2, 3, 4]
    assert builds == [3, "double"]


@pytest.mark.parametrize("record", RECORDINGS.values(), ids=RECORDINGS)
def test_a_recording_takes_nothing_kept(keeper, record):
    """A graph that reads a tensor of before goes on reading it, freed or changed."""
    keeper(torch.zeros(3))
    builds.clear()
    record(keeper, torch.zeros(3))
    assert {3, "double"} <= set(builds)
    builds.clear()
    assert keeper(torch.zeros(3)).tolist() == [2, 3, 4]
    assert builds == []


def test_no_more_is_kept_than_was_said(keeper):
    for length in (1, 2, 3, 3, 2, 1):
        assert ramp(length, torch.device("cpu")).tolist() == list(range(length))
    assert builds == [1, 2, 3, 1]


def test_what_inference_mode_builds_can_be_trained_with(keeper):
    with torch.inference_mode():
        ramp(3, torch.device("cpu"))
    x = torch.ones(3, requires_grad=True)
    (x * ramp(3, torch.device("cpu"))).sum().backward()
    assert x.grad.tolist() == [0, 1, 2]
    assert builds == [3]
