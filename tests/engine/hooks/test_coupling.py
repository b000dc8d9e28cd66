"""The schedule of coupled blocks: what moves, resuming, averages, what it refuses."""

import math

import pytest
import scheduled
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from scheduled import LENGTH
from torch import nn

from mmrev.engine import CouplingHook
from mmrev.errors import UserError
from mmrev.models import NFNet, SwinTransformerV2
from mmrev.registry import HOOKS
from mmrev.reversible import in_mode, run_chain
from mmrev.runs.check import say_unmoved


class Block(nn.Linear):
    def forward(self, x):
        return x + super().forward(x).tanh()


class Coupled(nn.Module):
    """A backbone in little."""

    coupling = "dual"

    def __init__(self, memory):
        super().__init__()
        self.memory = [memory]
        self.blocks = nn.ModuleList(Block(2, 2) for _ in range(4))
        self.register_buffer("coefficients", torch.tensor([1.0, 0.0]))

    def forward(self, x):
        couple = in_mode(*self.memory)
        return run_chain(self.blocks, x, self.coefficients, couple)[0]


class Toy(BaseModel):
    def __init__(self, memory="store"):
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.Sequential(Coupled(memory), Coupled(memory))
        self.seen, self.losses = [], []

    def forward(self, inputs, data_samples=None, mode="tensor"):
        self.seen.append(tuple(tuple(p.coefficients.tolist()) for p in self.parts))
        loss = self.parts(inputs).square().sum()
        self.losses.append(loss.item())
        return {"loss": loss}


def train(work_dir, model, hook, **settings):
    hook = {"type": "mmrev.CouplingHook", **hook}
    return scheduled.train(work_dir, model, hook, **settings)


def twice(*pairs, each=1):
    """What both parts of a toy have, each pair for so many iterations."""
    return [(pair, pair) for pair in pairs for _ in range(each)]


def test_linear_by_epoch(tmp_path):
    model = Toy()
    train(tmp_path, model, {"end": 2, "to": (0.5, 0.75)}, epochs=4)
    last = (0.5, 0.75)
    assert model.seen == twice((1, 0), (0.75, 0.375), last, last, each=LENGTH)


def test_cosine_by_iteration(tmp_path):
    model = Toy()
    hook = {"end": 6, "by_epoch": False, "curve": "cosine"}
    train(tmp_path, model, hook, iters=8)
    b = [0.25 * (1 - math.cos(math.pi * i / 6)) for i in range(6)]
    expected = twice(*((1 - one, one) for one in b))
    for found, pairs in zip(model.seen, expected, strict=False):
        assert found[0] == found[1] == pytest.approx(pairs[0], abs=1e-6)
    assert model.seen[0] == ((1, 0), (1, 0)) and len(model.seen) == 8
    assert model.seen[6:] == twice((0.5, 0.5), each=2)  # exactly


def test_start_that_can_be_inverted_at_once(tmp_path):
    model = Toy()
    hook = {"end": 2, "start": (0.75, 0.25), "to": (0.25, 0.5)}
    train(tmp_path, model, hook, epochs=3)
    expected = twice((0.75, 0.25), (0.5, 0.375), (0.25, 0.5), each=LENGTH)
    assert model.seen == expected


@pytest.mark.parametrize("by_epoch", [True, False])
@pytest.mark.parametrize("memory", ["store", "reverse"])
def test_resumed_run_is_the_uninterrupted_one(tmp_path, by_epoch, memory):
    hook = {"end": 3 if by_epoch else 3 * LENGTH, "by_epoch": by_epoch}
    saving = {"type": "CheckpointHook", "interval": 1, "by_epoch": False}
    settings = {
        "epochs": 4,
        "hooks": [{"type": "mmrev.ExactResumeHook"}],
        "default_hooks": {"checkpoint": saving},
    }
    whole = Toy(memory)
    train(tmp_path, whole, hook, **settings)
    for step in (6, 8):  # within an epoch, at its end
        load_from = str(tmp_path / f"iter_{step}.pth")
        weights = torch.load(load_from, weights_only=False)["state_dict"]
        assert 0 < weights["parts.0.coefficients"][1] < 0.5
        resumed, place = Toy(memory), tmp_path / str(step)
        train(place, resumed, hook, **settings, load_from=load_from, resume=True)
        assert resumed.seen == whole.seen[step:]
        assert resumed.losses == whole.losses[step:]
        assert_same(resumed.state_dict(), whole.state_dict())


def test_reversal_trains_as_store_does(tmp_path):
    models = [Toy("store"), Toy("reverse")]
    for number, model in enumerate(models):
        hook = {"end": 2 * LENGTH, "by_epoch": False}
        train(tmp_path / str(number), model, hook, epochs=3)
    assert models[0].losses == models[1].losses
    assert_same(*(model.state_dict() for model in models))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, one in found.items():
        assert torch.equal(one, expected[name]), name


def test_weights_that_are_further_stay_so(tmp_path):
    model = Toy()
    model.parts[1].coefficients.copy_(torch.tensor([0.5, 0.25]))
    train(tmp_path, model, {"end": 2, "to": (0.25, 0.5)}, epochs=3)
    second = [pair for _, pair in model.seen[::LENGTH]]
    assert second == [(0.5, 0.25), (0.5, 0.25), (0.25, 0.5)]
    assert model.seen[0][0] == (1, 0)


@pytest.mark.parametrize("update_buffers", [False, True])
def test_averaged_weights_have_the_coefficients_of_the_model(tmp_path, update_buffers):
    hooks = [{"type": "EMAHook", "momentum": 0.1, "update_buffers": update_buffers}]
    train(tmp_path, Toy(), {"end": 2}, epochs=3, hooks=hooks)
    for name, pair in (("epoch_2.pth", [0.75, 0.25]), ("epoch_3.pth", [0.5, 0.5])):
        saved = torch.load(tmp_path / name, weights_only=False)
        averages = saved["ema_state_dict"], saved["state_dict"]
        for weights in averages:
            found = [v.tolist() for k, v in weights.items() if "coefficients" in k]
            assert found == [pair, pair]


def test_logged_with_the_losses(tmp_path):
    logger = {"logger": {"type": "LoggerHook", "interval": 3}}
    hook = {"end": 4, "by_epoch": False}
    runner = train(tmp_path, Toy(), hook, iters=8, default_hooks=logger)
    scalars = runner.message_hub.log_scalars
    for name, values in (
        ("a", [1, 0.875, 0.75, 0.625, 0.5, 0.5, 0.5, 0.5]),
        ("b", [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5]),
    ):
        history, _ = scalars[f"train/coupling/{name}"].data
        assert history.tolist() == values
    (log,) = tmp_path.glob("*/*.log")
    lines = [line for line in log.read_text().splitlines() if "coupling/" in line]
    assert "coupling/a: 0.7500  coupling/b: 0.2500" in lines[0]
    assert "coupling/a: 0.5000  coupling/b: 0.5000" in lines[1]
    (scalars,) = tmp_path.glob("*/vis_data/scalars.json")
    assert '"coupling/b": 0.25' in scalars.read_text().splitlines()[0]


def test_the_least_far_is_logged(tmp_path):
    model = Toy()
    model.parts[0].coefficients.copy_(torch.tensor([0.5, 0.5]))
    runner = train(tmp_path / "one", model, {"end": 2}, epochs=3)
    history, _ = runner.message_hub.log_scalars["train/coupling/b"].data
    assert history.tolist()[::LENGTH] == [0, 0.25, 0.5]
    runner = train(tmp_path / "all", model, {"end": 2}, epochs=3)
    history, _ = runner.message_hub.log_scalars["train/coupling/b"].data
    assert history.tolist() == [0.5] * 3 * LENGTH


SMALL = [
    (
        SwinTransformerV2,
        dict(
            arch=dict(embed_dims=16, depths=[1, 2, 4, 1], num_heads=[1, 1, 2, 2]),
            window_size=4,
        ),
    ),
    (
        NFNet,
        dict(arch=dict(depths=[1, 2, 4, 2], channels=[32, 32, 64, 64], group_width=8)),
    ),
]


@pytest.mark.parametrize("memory", ["store", "reverse"])
@pytest.mark.parametrize(("family", "settings"), SMALL)
def test_starts_as_the_ordinary_network(family, settings, memory):
    torch.manual_seed(0)
    ordinary = family(**settings)
    ordinary.init_weights()
    for parameter in ordinary.parameters():
        if not parameter.any():  # a branch that starts at 0 is not seen
            nn.init.normal_(parameter, std=0.1)
    coupled = family(**settings, coupling="dual", memory=memory)
    coupled.load_state_dict(ordinary.state_dict())
    hook = CouplingHook(end=2)
    (buffer,) = hook.find(coupled)
    hook.move(buffer, hook.left_at(0))
    images = torch.randn(2, 3, 64, 64)
    expected = ordinary(images)
    assert all(map(torch.equal, coupled(images), expected))
    hook.move(buffer, hook.left_at(1))
    assert not any(map(torch.equal, coupled(images)[2:3], expected[2:3]))


@pytest.mark.parametrize(
    ("hook", "length"),
    [
        ({"end": 4}, {"epochs": 4}),
        ({"end": 16, "by_epoch": False}, {"epochs": 4}),
        ({"end": 1}, {"iters": 8}),
    ],
)
def test_must_end_before_the_training(tmp_path, hook, length):
    with pytest.raises(UserError, match=r"CouplingHook: it must end before .* end="):
        train(tmp_path, Toy(), hook, **length)


@pytest.mark.parametrize("coupling", [None, "two-stream"])
def test_needs_something_to_move(tmp_path, coupling):
    model = Toy()
    for part in model.parts:
        part.coupling = coupling
    with pytest.raises(UserError, match=r"set model\.backbone\.coupling='dual'"):
        train(tmp_path, model, {"end": 2}, epochs=4)


@pytest.mark.parametrize(
    "pairs",
    [
        *({"to": to} for to in [(1.0, 0.0), (0.5, -0.5), (0.5, 1.5), (1.5, 0.5)]),
        *({"to": to} for to in [(-0.1, 0.5), (0.5,), 0.5]),
        {"start": (0.4, 0.1)},  # a would rise
        {"start": (0.9, 0.6)},  # b would fall
        {"start": (1.5, 0.0)},
        {"start": 1.0},
    ],
)
def test_coefficients_out_of_range(pairs):
    with pytest.raises(ValueError, match=r"start and to must be pairs a, b, of which"):
        CouplingHook(3, **pairs)


def test_unknown_settings():
    with pytest.raises(ValueError, match=r"CouplingHook: curve must be .* got 'sine'"):
        CouplingHook(3, curve="sine")
    with pytest.raises(ValueError, match="CouplingHook: end must be >= 1, got 0"):
        HOOKS.build({"type": "mmrev.CouplingHook", "end": 0})


@pytest.mark.parametrize(
    ("memory", "b", "hooks", "lines"),
    [
        ("reverse", 0.0, [], 1),
        ("reverse", 0.0, [CouplingHook(2)], 0),
        ("reverse", 0.5, [], 0),
        ("store", 0.0, [], 0),
    ],
)
def test_reversal_that_nothing_moves_is_said(monkeypatch, memory, b, hooks, lines):
    warned = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, "warning", warned.append)
    model = nn.Sequential(Coupled(memory))
    model[0].coefficients[1] = b
    say_unmoved(model, hooks)
    assert len(warned) == lines
    assert all("mmrev.CouplingHook" in line for line in warned)
