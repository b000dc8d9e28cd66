"""The fade schedule: its curves, resuming, averaged weights, what it refuses."""

import math

import pytest
import scheduled
import torch
from mmengine.model import BaseModel
from scheduled import LENGTH
from torch import nn

from mmrev.engine import FadeHook
from mmrev.errors import UserError
from mmrev.models.layers import FadedReLU, largest_fade
from mmrev.registry import HOOKS


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), FadedReLU(), nn.Linear(2, 2))
        self.extra = FadedReLU()
        self.seen = []

    def forward(self, inputs, data_samples=None, mode="tensor"):
        self.seen.append((self.layers[1].fade.item(), self.extra.fade.item()))
        return {"loss": self.extra(self.layers(inputs)).sum()}


def train(work_dir, model, hook, **settings):
    hook = {"type": "mmrev.FadeHook", **hook}
    return scheduled.train(work_dir, model, hook, **settings)


def test_linear_by_epoch(tmp_path):
    """As the reference: epoch e of `end` runs at slope e / end."""
    model = Toy()
    train(tmp_path, model, {"end": 2}, epochs=4)
    per_epoch = [1.0, 0.5, 0.0, 0.0]
    assert model.seen == [(fade, fade) for fade in per_epoch for _ in range(LENGTH)]


def test_cosine_by_iteration(tmp_path):
    model = Toy()
    hook = {"end": 6, "by_epoch": False, "curve": "cosine"}
    train(tmp_path, model, hook, iters=8)
    found = [one for one, _ in model.seen]
    expected = [0.5 * (1 + math.cos(math.pi * i / 6)) for i in range(6)] + [0, 0]
    assert found == pytest.approx(expected, abs=1e-6)
    assert largest_fade(model) == 0  # exactly


def test_iterations_within_epochs(tmp_path):
    model = Toy()
    train(tmp_path, model, {"end": 4, "by_epoch": False}, epochs=2)
    assert [one for one, _ in model.seen] == [1, 0.75, 0.5, 0.25, 0, 0, 0, 0]


@pytest.mark.parametrize("by_epoch", [True, False])
def test_survives_resuming(tmp_path, by_epoch):
    hook = {"end": 3 if by_epoch else 3 * LENGTH, "by_epoch": by_epoch}
    whole = Toy()
    train(tmp_path, whole, hook, epochs=4)
    weights = torch.load(tmp_path / "epoch_2.pth", weights_only=False)["state_dict"]
    assert 0 < weights["layers.1.fade"] < 1
    resumed = Toy()
    load_from = str(tmp_path / "epoch_2.pth")
    train(tmp_path / "2", resumed, hook, epochs=4, load_from=load_from, resume=True)
    assert resumed.seen == whole.seen[2 * LENGTH :]


def test_faded_weights_stay_faded(tmp_path):
    model = Toy()
    model.extra.fade.zero_()
    train(tmp_path, model, {"end": 2}, epochs=3)
    assert {extra for _, extra in model.seen} == {0.0}
    assert model.seen[0] == (1.0, 0.0)


@pytest.mark.parametrize("update_buffers", [False, True])
def test_averaged_weights_have_the_fade_of_the_model(tmp_path, update_buffers):
    hooks = [{"type": "EMAHook", "momentum": 0.1, "update_buffers": update_buffers}]
    train(tmp_path, Toy(), {"end": 2}, epochs=3, hooks=hooks)
    for name, fade in (("epoch_2.pth", 0.5), ("epoch_3.pth", 0.0)):
        weights = torch.load(tmp_path / name, weights_only=False)["state_dict"]
        assert weights["layers.1.fade"] == weights["extra.fade"] == fade


@pytest.mark.parametrize(
    ("hook", "length"),
    [
        ({"end": 4}, {"epochs": 4}),
        ({"end": 16, "by_epoch": False}, {"epochs": 4}),
        ({"end": 1}, {"iters": 8}),
    ],
)
def test_must_end_before_the_training(tmp_path, hook, length):
    with pytest.raises(UserError, match=r"must end before .* got end="):
        train(tmp_path, Toy(), hook, **length)


def test_needs_something_to_fade(tmp_path):
    model = Toy()
    model.layers[1] = model.extra = nn.Identity()
    with pytest.raises(UserError, match="has no faded activation"):
        train(tmp_path, model, {"end": 2}, epochs=4)


def test_unknown_settings():
    with pytest.raises(ValueError, match="curve must be 'linear' or 'cosine', got"):
        FadeHook(3, curve="sine")
    with pytest.raises(ValueError, match="end must be >= 1, got 0"):
        HOOKS.build({"type": "mmrev.FadeHook", "end": 0})
