"""Trainings that diverge: by a loss, a gradient, a matcher; and loss scalers."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from scipy.optimize import linear_sum_assignment
from torch import nn

from mmrev.checkpoints.runs import load_strictly
from mmrev.engine import DivergenceHook
from mmrev.errors import UserError
from mmrev.runs.console import ConsoleRunner

LENGTH = 12


class Toy(BaseModel):
    """Its losses follow a script; a matcher asks for finite predictions."""

    def __init__(self, factors=(), matches=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.factors = dict(factors)
        self.matches = matches
        self.steps = 0

    def forward(self, inputs, data_samples=None, mode="tensor"):
        self.steps += 1
        predictions = self.weight * self.factors.get(self.steps, 1.0)
        if self.matches:
            linear_sum_assignment(predictions.detach().outer(torch.ones(2)))
        return {"loss_cls": predictions.sum(), "loss_box": self.weight.sum()}


class ScaledWrapper(OptimWrapper):
    """As AmpOptimWrapper, which is for GPUs."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=1.0)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward()
        self._inner_count += 1

    def step(self, **kwargs):
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()


def train(work_dir, model, **optim_wrapper):
    data = torch.utils.data.DataLoader([{"inputs": torch.ones(1)}] * LENGTH)
    settings = {"optimizer": {"type": "SGD", "lr": 0.125}, **optim_wrapper}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = ConsoleRunner(
            model=model,
            work_dir=str(work_dir),
            train_dataloader=data,
            train_cfg={"by_epoch": False, "max_iters": LENGTH},
            optim_wrapper=settings,
            custom_hooks=[{"type": "mmrev.DivergenceHook"}],
            default_hooks={
                "checkpoint": {
                    "type": "CheckpointHook",
                    "interval": 1,
                    "by_epoch": False,
                    "max_keep_ckpts": 1,
                }
            },
            default_scope="mmengine",
            experiment_name=f"{work_dir.name}-{id(model)}",
            cfg=Config({"model": {}}),
        )
        runner.train()
    return model


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_loss(tmp_path, value):
    with pytest.raises(UserError) as stop:
        train(tmp_path, Toy({3: value}))
    assert str(stop.value).startswith(
        f"iteration 3: not finite: loss {value}, loss_cls {value}; training has "
        "diverged, at a largest learning rate of 0.125."
    )
    assert [path.name for path in tmp_path.glob("*.pth")] == ["iter_2.pth"]


def test_gradient(tmp_path):
    """The loss is sound and the step breaks the weights."""
    model = Toy()
    count = []

    def spoil(gradient):
        count.append(1)
        return gradient * (torch.nan if len(count) == 2 else 1.0)

    model.weight.register_hook(spoil)
    with pytest.raises(UserError, match=r"^iteration 2: not finite: grad_norm nan;"):
        train(tmp_path, model, clip_grad={"max_norm": 1.0})
    assert [path.name for path in tmp_path.glob("*.pth")] == ["iter_1.pth"]


def test_predictions_before_a_matcher(tmp_path):
    with pytest.raises(UserError, match=r"^iteration 3: not finite: predictions,"):
        train(tmp_path, Toy({3: torch.nan}, matches=True))


def test_other_errors_of_a_training_stay(tmp_path):
    model = Toy(matches=True)
    model.forward = lambda *args, **kwargs: int("x")
    with pytest.raises(ValueError, match="invalid literal"):
        train(tmp_path, model)


def test_a_loss_scaler_leaves_steps_out(tmp_path):
    """Here twice by the loss, and by the gradient in every other step."""
    model = Toy({3: torch.inf, 4: torch.inf})
    count = []

    def overflow(gradient):
        count.append(1)
        return gradient * (torch.inf if len(count) % 2 else 1.0)

    model.weight.register_hook(overflow)
    train(tmp_path, model, type=ScaledWrapper, clip_grad={"max_norm": 9})
    # Of 12 steps 1, 3, 5, ... overflow, and 4 has an infinite loss.
    assert model.steps == LENGTH
    assert torch.equal(model.weight, torch.full((2,), 1.0 - 5 * 2 * 0.125))


def test_a_loss_scaler_that_leaves_every_step_out(tmp_path):
    model = Toy(dict.fromkeys(range(2, LENGTH + 1), torch.inf))
    with pytest.raises(UserError, match=r"^iteration 11: not finite: loss inf"):
        train(tmp_path, model, type=ScaledWrapper)


def test_reads_what_is_logged_and_no_tensor():
    """So that the hook makes no step wait for a GPU."""
    hub = MessageHub("test-divergence")
    hub.update_scalar("train/loss", 1.0)
    runner = SimpleNamespace(message_hub=hub, optim_wrapper=None)
    hook = DivergenceHook()
    hook.before_train(runner)
    on_gpu = torch.ones((), device="meta")  # cannot be read
    hook.after_train_iter(runner, 0, outputs={"loss": on_gpu})


def test_checkpoint_of_a_diverged_training():
    weights = {"weight": torch.tensor([[1.0, torch.nan]]), "bias": torch.ones(1)}
    with pytest.raises(UserError, match=r"old\.pth: 1 of 2 weights are not"):
        load_strictly(nn.Linear(2, 1), weights, "old.pth", "config.py")
