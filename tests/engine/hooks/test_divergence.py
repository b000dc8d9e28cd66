"""Trainings that diverge: by a loss, a gradient, a matcher; and loss scalers."""

import warnings
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.distributed.fsdp import fully_shard

from mmrev.checkpoints.runs import load_strictly
from mmrev.engine import DivergenceHook
from mmrev.errors import UserError
from mmrev.measure.not_finite import local
from mmrev.registry import HOOKS
from mmrev.runs.console import ConsoleRunner

LENGTH, BATCH = 12, 2


class Spoil(nn.Module):
    """Spoils values or gradients, in iterations that follow a script."""

    def __init__(self, faults):
        super().__init__()
        self.faults = dict(faults)
        self.drawn = []

    def forward(self, x):
        self.drawn.append(float(torch.rand(())))
        done = MessageHub.get_current_instance().get_info("iter")
        fault = self.faults.get(done + 1)
        if fault == "gradient":
            return x + (x - x.detach()).sqrt()
        return x if fault is None else x * fault


class Toy(BaseModel):
    def __init__(self, faults=(), matches=False):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(3, 4)
        self.spoil = Spoil(faults)
        self.norm = nn.BatchNorm1d(4)
        self.matches = matches

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x = self.norm(self.spoil(self.stem(torch.stack(inputs))))
        if self.matches:
            linear_sum_assignment(x.detach())
        return {"loss_cls": x.square().mean(), "loss_box": self.stem.weight.sum()}


@HOOKS.register_module()
class KeepStates(Hook):
    """The weights after each iteration, first before the first."""

    priority = "VERY_LOW"
    states: list = []  # noqa: RUF012  of the run

    def before_train(self, runner):
        self.states[:] = [deepcopy(runner.model.state_dict())]

    def after_train_iter(self, runner, *args, **kwargs):
        self.states.append(deepcopy(runner.model.state_dict()))


def data():
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "inputs": torch.rand(3, generator=generator),
            "data_samples": BaseDataElement(
                metainfo={"img_id": number, "img_path": f"{number}.png"}
            ),
        }
        for number in range(BATCH * LENGTH)
    ]


def train(
    work_dir,
    model,
    skip_steps=0,
    hooks=(),
    load_from=None,
    saves=True,
    **optim_wrapper,
):
    settings = {
        "optimizer": {"type": "SGD", "lr": 0.125, "momentum": 0.9},
        **optim_wrapper,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = ConsoleRunner(
            model=model,
            work_dir=str(work_dir),
            train_dataloader=torch.utils.data.DataLoader(
                data(), batch_size=BATCH, collate_fn=pseudo_collate
            ),
            train_cfg={"by_epoch": False, "max_iters": LENGTH},
            optim_wrapper=settings,
            custom_hooks=[
                {"type": "mmrev.DivergenceHook", "skip_steps": skip_steps},
                *([{"type": "mmrev.KeepStates"}] if saves else []),
                *hooks,
            ],
            default_hooks={
                "checkpoint": {
                    "type": "mmrev.AtomicCheckpointHook",
                    "interval": 1,
                    "by_epoch": False,
                    "max_keep_ckpts": 1,
                }
                if saves
                else None
            },
            default_scope="mmengine",
            experiment_name=f"{work_dir.name}-{id(model)}",
            cfg=Config({"model": {}}),
            load_from=load_from and str(load_from),
            resume=load_from is not None,
        )
        runner.train()
    return runner


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def stopped(work_dir, model, **settings):
    """The message, after looking at what the training has left."""
    with pytest.raises(UserError) as stop:
        train(work_dir, model, **settings)
    (saved,) = work_dir.glob("*.pth")
    steps = int(saved.stem.removeprefix("iter_"))
    saved = torch.load(saved, weights_only=False)
    weights = {name for name, _ in model.named_parameters()}
    assert_same(
        {name: value for name, value in model.state_dict().items() if name in weights},
        {name: v for name, v in saved["state_dict"].items() if name in weights},
    )
    assert len(KeepStates.states) == 1 + steps
    message = str(stop.value)
    assert message.startswith(f"iteration {steps + 1}: not finite: ")
    return message.removeprefix(f"iteration {steps + 1}: not finite: ")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_loss(tmp_path, value):
    model = Toy({3: value})
    found, _, rest = stopped(tmp_path, model).partition("; ")
    assert found == (
        "loss nan, loss_cls nan, first in spoil (Spoil), of the images 4 4.png, 5 5.png"
    )
    assert rest.startswith(
        "training has diverged, at a largest learning rate of 0.125. Lower "
    )
    assert model.spoil.drawn[2] == model.spoil.drawn[3]  # the repetition
    assert len(model.spoil.drawn) == 4


WRAPPERS = {
    "plain": {},
    "norm": {"clip_grad": {"max_norm": 1.0}},
    "value": {"clip_grad": {"type": "value", "clip_value": 1.0}},
    "bfloat16": {"type": "mmrev.BFloat16OptimWrapper"},
    "AGC": {"type": "mmrev.AGCOptimWrapper"},
    "SAM": {"type": "mmrev.SAMOptimWrapper"},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_gradient(tmp_path, wrapper):
    """The loss is sound, and the step would break the weights."""
    message = stopped(tmp_path, Toy({2: "gradient"}), **WRAPPERS[wrapper])
    assert message.startswith(
        "grad_norm nan, first in spoil (Spoil), going back (SqrtBackward0), of the "
        "images 2 2.png, 3 3.png; training has diverged"
    )


def test_a_gradient_that_a_hook_of_the_weight_spoils(tmp_path):
    model = Toy()
    counts = []

    def spoil(gradient):
        counts.append(1)
        return gradient * (torch.inf if len(counts) >= 2 else 1.0)

    model.norm.weight.register_hook(spoil)
    message = stopped(tmp_path, model)
    assert message.startswith(
        "grad_norm inf, first in the sum of the gradients that come back to norm "
        "(BatchNorm1d), of the images 2 2.png"
    )


@pytest.mark.parametrize("kind", [torch.nan, "gradient"])
def test_steps_left_out(tmp_path, kind, monkeypatch):
    """They change nothing, neither weights nor statistics nor momenta."""
    warned = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: warned.append(text))
    runner = train(tmp_path, Toy({3: kind, 7: kind}), skip_steps=2)
    states = KeepStates.states[:]
    for index in range(LENGTH):
        moved = not torch.equal(
            states[index + 1]["stem.weight"], states[index]["stem.weight"]
        )
        assert moved == (index not in (2, 6))
    for index in (2, 6):
        assert_same(states[index + 1], states[index])
    said = [text for text in warned if "left out" in text]
    assert [text.split(":")[0] for text in said] == ["iteration 3", "iteration 7"]
    assert said[1].endswith(
        "of the images 12 12.png, 13 13.png; the step was left out, 2 of at most 2 "
        "(skip_steps)."
    )
    assert "first in spoil (Spoil)" in said[1]
    assert runner.message_hub.get_info("skipped_steps") == 2


def test_other_steps_are_those_of_a_training_without_the_images(tmp_path, monkeypatch):
    train(tmp_path / "skipped", Toy({3: torch.nan}), skip_steps=1)
    skipped = KeepStates.states[:]
    everything = data()
    without = everything[:4] + everything[6:] + everything[:2]
    monkeypatch.setitem(globals(), "data", lambda: without)
    train(tmp_path / "without", Toy())
    assert_same(skipped[-1], KeepStates.states[-2])


def test_one_too_many_also_after_a_resumption(tmp_path):
    faults = dict.fromkeys((2, 5, 9), torch.nan)
    message = stopped(tmp_path, Toy(faults), skip_steps=2)
    assert ", after 2 steps that were left out (skip_steps); training" in message
    (saved,) = tmp_path.glob("*.pth")
    assert saved.name == "iter_8.pth"
    with pytest.raises(UserError, match=r"^iteration 9: .*after 2 steps that were "):
        train(tmp_path, Toy(faults), skip_steps=2, load_from=saved)
    train(tmp_path, Toy(faults), skip_steps=3, load_from=saved)


@pytest.mark.parametrize("kind", [torch.nan, "gradient"])
def test_accumulated_gradients(tmp_path, kind):
    """What is gathered up to the fault is left out, and the rest makes the step."""
    plain = {"optimizer": {"type": "SGD", "lr": 0.125}}
    model = Toy({5: kind})
    train(tmp_path, model, skip_steps=1, accumulative_counts=3, **plain)
    states = KeepStates.states[:]
    assert_same(states[5], states[4])
    model = Toy()
    model.load_state_dict(states[5])
    model.train()
    images = torch.stack([one["inputs"] for one in data()[10:12]])
    x = model.norm(model.stem(images))
    loss = (x.square().mean() + model.stem.weight.sum()) / 3
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.125).step()
    torch.testing.assert_close(model.state_dict(), states[6])


def test_averages_stay_finite(tmp_path):
    hooks = [{"type": "EMAHook", "update_buffers": True}]
    train(tmp_path, Toy({3: torch.nan}), skip_steps=1, hooks=hooks)
    (saved,) = tmp_path.glob("*.pth")
    saved = torch.load(saved, weights_only=False)
    assert all(value.isfinite().all() for value in saved["ema_state_dict"].values())


@HOOKS.register_module()
class Overflow(Hook):
    """As a step of a learning rate that is far too high."""

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 3:
            runner.model.stem.bias.data[1] = torch.inf


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """With one checkpoint kept, the sound one would go for it."""
    hooks = [{"type": "mmrev.Overflow"}]
    with pytest.raises(UserError) as stop:
        train(tmp_path, Toy(), hooks=hooks)
    assert str(stop.value).startswith(
        "iteration 4: not finite: weights (stem.bias), which are not saved; training "
    )
    (saved,) = tmp_path.glob("*.pth")
    assert saved.name == "iter_3.pth"


def test_predictions_before_another_matcher(tmp_path):
    with pytest.raises(UserError, match=r"^iteration 3: not finite: predictions,"):
        train(tmp_path, Toy({3: torch.nan}, matches=True))


def test_matchers_of_mmdet(tmp_path):
    from mmdet.models.task_modules.assigners import hungarian_assigner

    train(tmp_path, Toy())
    cost = torch.tensor([[3.0, 1.0], [2.0, 4.0]])
    rows, columns = hungarian_assigner.linear_sum_assignment(cost)
    assert [*rows] == [0, 1] and [*columns] == [1, 0]
    cost[0, 1] = torch.nan
    rows, columns = hungarian_assigner.linear_sum_assignment(cost)
    assert sorted(columns) == [0, 1]


def test_other_errors_of_a_training_stay(tmp_path):
    model = Toy(matches=True)
    model.forward = lambda *args, **kwargs: int("x")
    with pytest.raises(ValueError, match="invalid literal"):
        train(tmp_path, model)


@pytest.mark.parametrize("value", [-1, 1.5, "2", None])
def test_a_wrong_number_of_steps(value):
    with pytest.raises(ValueError, match=r"DivergenceHook: skip_steps must .*, got"):
        DivergenceHook(value)


def share(rank, work_dir, wrap, faults, skip_steps):
    """The message and states of a training in which process 1 meets faults."""
    torch.set_num_threads(1)
    model = Toy(faults if rank == 1 else ())
    model.norm = nn.Identity()  # whose statistics would differ
    if wrap == "sharded":
        model = fully_shard(model, reshard_after_forward=True)
    else:
        model = MMDistributedDataParallel(model)
    message = ""
    with pytest.MonkeyPatch.context() as patch:
        # Sends weights around, of which each process has a part.
        patch.setattr(ConsoleRunner, "_init_model_weights", lambda self: None)
        try:
            train(work_dir / f"{rank}", model, skip_steps, saves=False)
        except UserError as error:
            message = str(error)
    return message, [local(parameter).detach() for parameter in model.parameters()]


@pytest.mark.parametrize("wrap", ["replicated", "sharded"])
@pytest.mark.parametrize("kind", [torch.nan, "gradient"])
def test_all_processes_stop(tmp_path, process_pair, wrap, kind):
    (one, _), (other, _) = process_pair.run(share, tmp_path, wrap, {3: kind}, 0)
    assert one == other
    assert one.startswith("iteration 3: not finite: in process 1 ")
    assert "first in spoil (Spoil)" in one and "4 4.png, 5 5.png; training" in one


@pytest.mark.parametrize("wrap", ["replicated", "sharded"])
@pytest.mark.parametrize("kind", [torch.nan, "gradient"])
def test_all_processes_leave_a_step_out(tmp_path, process_pair, wrap, kind):
    (_, one), (_, other) = process_pair.run(share, tmp_path, wrap, {3: kind}, 1)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.isfinite().all()
        assert wrap == "sharded" or torch.equal(mine, theirs)


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


def test_a_loss_scaler_leaves_steps_out(tmp_path):
    """Here twice by the loss, and by the gradient in every other step."""
    model = Toy({3: torch.inf, 4: torch.inf})
    count = []

    def overflow(gradient):
        count.append(1)
        return gradient * (torch.inf if len(count) % 2 else 1.0)

    model.stem.weight.register_hook(overflow)
    train(tmp_path, model, type=ScaledWrapper, clip_grad={"max_norm": 9})
    # Of 12 steps 1, 3, 5, ... overflow, and 4 has an infinite loss.
    states = [state["stem.weight"] for state in KeepStates.states]
    moved = [not torch.equal(*pair) for pair in pairwise(states)]
    assert [i + 1 for i, one in enumerate(moved) if one] == [2, 6, 8, 10, 12]


def test_a_loss_scaler_that_leaves_every_step_out(tmp_path):
    model = Toy(dict.fromkeys(range(2, LENGTH + 1), torch.inf))
    with pytest.raises(UserError, match=r"^iteration 11: .*first in spoil \(Spoil\)"):
        train(tmp_path, model, type=ScaledWrapper)
    assert_same(KeepStates.states[-1], KeepStates.states[1])


def test_checkpoint_of_a_diverged_training():
    weights = {"weight": torch.tensor([[1.0, torch.nan]]), "bias": torch.ones(1)}
    with pytest.raises(UserError, match=r"old\.pth: 1 of 2 weights are not"):
        load_strictly(nn.Linear(2, 1), weights, "old.pth", "config.py")
