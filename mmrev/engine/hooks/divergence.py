"""Training steps that are not finite: never taken, told with their origin."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mmrev.engine.hooks.checkpoint import unwrapped
from mmrev.errors import UserError, shortened
from mmrev.measure.not_finite import Watch, local
from mmrev.registry import HOOKS
from mmrev.reversible.replay import AutocastState, RandomState, frozen_buffers
from mmrev.text import printable

__all__ = ["DivergenceHook", "divergence"]

# A loss scaler leaves out the step of a loss that is not finite, so that the weights
# stay sound; this often in a row it does not find back.
_MOST_OVERFLOWS = 10
_MOST_IMAGES = 16
_COUNT = "skipped_steps"  # in the message hub, and in the meta of checkpoints
_MATCHERS = (
    "mmdet.models.task_modules.assigners.hungarian_assigner",
    "mmdet.models.task_modules.assigners.topk_hungarian_assigner",
    "mmseg.models.assigners.hungarian_assigner",
)


@dataclass
class _Call:
    """What a training step called the model with, to call it again; what it gave."""

    args: tuple
    kwargs: dict
    random: RandomState
    autocast: AutocastState
    buffers: list[tuple[Tensor, Tensor]]
    losses: Any = None


@dataclass(frozen=True)
class _Report:
    """What one process found."""

    rank: int
    at_fault: bool
    text: str


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Takes no step whose loss or gradient is not finite, and ends the training.

    Looks before gradients are clipped and the optimizer steps, so that weights, momenta
    and averages stay as they were, in all processes alike. Only where something is not
    finite is the step repeated, to name the first module that it came from, and the
    images. While gradients are accumulated, those so far are left out, and those of the
    rest of the batch make its step. The schedules go on.

    It waits for a GPU once a step, before the optimizer; mmengine does after it, to
    log. Gradients that are not finite are the normal business of a loss scaler and none
    of this hook's.

    Args:
        skip_steps: this many such steps are left out and told, counted over the whole
            training and its resumptions; at the next one it ends.

    Raises:
        ValueError: `skip_steps` is no number of steps.
    """

    priority = "HIGH"  # after RuntimeInfoHook, which logs; before whatever saves

    def __init__(self, skip_steps: int = 0):
        if not isinstance(skip_steps, int) or skip_steps < 0:
            raise ValueError(
                "DivergenceHook: skip_steps must be a number of steps, 0 or more, got "
                f"{skip_steps!r}."
            )
        self.skip_steps = skip_steps

    def before_train(self, runner: Runner) -> None:
        """Stand between the backward pass and the optimizer."""
        _let_matchers_pass()
        self._overflows = 0
        self._forget()
        # Statistics of activations that are not finite have to be taken back.
        self._goes_on = bool(self.skip_steps) or _scaled(runner)
        note, keep = self._note_call, self._keep_losses
        self._handles = [
            runner.model.register_forward_pre_hook(note, with_kwargs=True),
            runner.model.register_forward_hook(keep, with_kwargs=True),
        ]
        self._take = take = runner.optim_wrapper.step

        @wraps(take)  # mmengine's schedules look for an attribute of theirs
        def take_if_finite(**kwargs: Any) -> None:
            if not _scaled(runner):
                self._look(runner)
                if any(self._broken):
                    runner.model.zero_grad()  # the optimizer leaves such weights alone
            take(**kwargs)

        runner.optim_wrapper.step = take_if_finite

    def after_train(self, runner: Runner) -> None:
        """Stand aside."""
        runner.optim_wrapper.step = self._take
        for handle in self._handles:
            handle.remove()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell of a step that was left out.

        Raises:
            UserError: It was one too many. Names what is not finite, the iteration,
                the module, the images, and remedies.
        """
        if self._numbers is None:  # no step yet of what is accumulated, or a scaler's
            self._look(runner)
        broken = any(self._broken)
        self._overflows = self._overflows + 1 if broken and _scaled(runner) else 0
        if broken:
            if not 0 < self._overflows < _MOST_OVERFLOWS:
                self._count(runner, self._describe(runner, outputs or {}))
            runner.model.zero_grad()
            for buffer, before in self._call.buffers if self._call else ():
                buffer.copy_(before)
        self._forget()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the weights, which a finite gradient can spoil, too; count.

        Raises:
            UserError: They are not finite; nothing is written or removed then.
        """
        parameters = {name for name, _ in unwrapped(runner.model).named_parameters()}
        broken = []
        for name, value in checkpoint["state_dict"].items():
            mine = local(value)
            # In a buffer infinity may be meant, as in a mask.
            if mine.isnan().any() or (name in parameters and mine.isinf().any()):
                broken.append(name)
        if broken:
            found = f"weights ({shortened(broken)}), which are not saved"
            raise divergence(runner, found)
        if count := runner.message_hub.get_info(_COUNT, 0):
            checkpoint["meta"][_COUNT] = count

    def _forget(self) -> None:
        self._call: _Call | None = None
        self._numbers: list[float] | None = None  # loss, length of the gradient
        self._broken = [False, False]  # whether they are not finite in some process

    def _note_call(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        # SAM calls the model a second time, with other weights.
        if kwargs.get("mode") != "loss" or self._call is not None:
            return
        device = next(model.parameters()).device
        buffers = model.buffers() if self._goes_on else ()
        self._call = _Call(
            args,
            kwargs,
            RandomState(device),
            AutocastState.current(device),
            [(buffer, buffer.clone()) for buffer in buffers],
        )

    def _keep_losses(
        self, model: nn.Module, args: tuple, kwargs: dict, losses: Any
    ) -> None:
        if self._call is not None and self._call.losses is None:
            self._call.losses = losses

    def _look(self, runner: Runner) -> None:
        model, numbers = unwrapped(runner.model), [torch.zeros(()), torch.zeros(())]
        if self._call is not None:
            numbers[0] = model.parse_losses(self._call.losses)[0].detach().float()
        if not _scaled(runner):
            gradients = [
                local(p.grad) for p in model.parameters() if p.grad is not None
            ]
            numbers[1] = torch.nn.utils.get_total_norm(gradients).float()
        device = numbers[0].device
        both = torch.stack([number.to(device) for number in numbers])
        broken = (~both.isfinite()).float()
        all_reduce(broken, "max")
        self._numbers = both.tolist()
        self._broken = [value > 0 for value in broken.tolist()]

    def _count(self, runner: Runner, found: str) -> None:
        count = runner.message_hub.get_info(_COUNT, 0) + 1
        if _scaled(runner) or count > self.skip_steps:
            if count > 1:
                found += f", after {count - 1} steps that were left out (skip_steps)"
            raise divergence(runner, found)
        runner.message_hub.update_info(_COUNT, count)
        runner.logger.warning(
            f"iteration {runner.iter + 1}: not finite: {found}; the step was left out, "
            f"{count} of at most {self.skip_steps} (skip_steps)."
        )

    def _describe(self, runner: Runner, outputs: Mapping[str, Any]) -> str:
        """What was not finite, where, on which images; of the processes at fault."""
        loss, norm = self._numbers
        losses = {k: torch.as_tensor(v) for k, v in outputs.items() if "loss" in k}
        broken = [f"{k} {v.item()}" for k, v in losses.items() if not v.isfinite()]
        text, place = [shortened(broken or [f"grad_norm {norm}"])], None
        if self._call is not None:
            place = self._find(unwrapped(runner.model))
            text += [f"first in {place}"] if place else []
            if images := _images(self._call.kwargs.get("data_samples")):
                text.append(f"of the images {shortened(images, _MOST_IMAGES)}")
        # A gradient that is not finite comes to every process.
        at_fault = not math.isfinite(loss) if self._broken[0] else place is not None
        reports = all_gather_object(_Report(get_rank(), at_fault, ", ".join(text)))
        reports = [one for one in reports if one.at_fault] or reports
        if get_world_size() == 1:
            return reports[0].text
        return "; ".join(f"in process {one.rank} {one.text}" for one in reports)

    def _find(self, model: nn.Module) -> str | None:
        """Repeat the step, in all processes alike, for it may talk to the others."""
        call, watch = self._call, Watch(model)
        with call.random.replayed(), frozen_buffers(model.modules()):
            with call.autocast(), watch.forward():
                losses = model(*call.args, **call.kwargs)
            loss = model.parse_losses(losses)[0]
            if not self._broken[0]:
                watch.backward(loss)
        return watch.found


def divergence(runner: Runner, found: str) -> UserError:
    """The error of a training that has diverged.

    Args:
        runner: in the iteration at fault.
        found: what is not finite.
    """
    largest = max(chain.from_iterable(runner.optim_wrapper.get_lr().values()))
    return UserError(
        f"iteration {runner.iter + 1}: not finite: {found}; training has diverged, at "
        f"a largest learning rate of {largest:g}. Lower optim_wrapper.optimizer.lr, "
        "warm up for longer or set optim_wrapper.clip_grad=dict(max_norm=1.0); in "
        "fp16, try optim_wrapper.dtype='bfloat16'; where images are at fault, mend "
        "them or leave out such steps by skip_steps=N. An earlier checkpoint can go "
        "on: --resume FILE."
    )


def _scaled(runner: Runner) -> bool:
    scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
    return scaler is not None and scaler.is_enabled()


def _images(samples: Any) -> list[str]:
    """Number and path of each image, as far as they are known."""
    named = []
    for sample in samples if isinstance(samples, Sequence) else ():
        known = [sample.get(key) for key in ("img_id", "img_path")]
        if name := " ".join(str(value) for value in known if value is not None):
            named.append(printable(name))
    return named


def _let_matchers_pass() -> None:
    """Let heads match predictions that are not finite, as mmdet's trackers do.

    Their loss is not finite either. scipy's error would come in one of many processes,
    which the others would wait for, and before it is known what went wrong.
    """
    for name in _MATCHERS:
        if module := sys.modules.get(name):  # where the model has none, it may not be
            module.linear_sum_assignment = _match


def _match(cost: Any) -> tuple:
    try:
        return linear_sum_assignment(cost)
    except ValueError:
        return linear_sum_assignment(torch.zeros_like(torch.as_tensor(cost)))
