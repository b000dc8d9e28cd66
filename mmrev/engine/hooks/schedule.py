"""What moves with the progress of a training, from a start to an end."""

import math

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmrev.errors import UserError


class ScheduledHook(Hook):
    """Moves buffers of a model in the first part of a training.

    It never moves one back: a resumed run goes on where it was, and weights that are
    further already stay so. Averaged weights (``EMAHook``) take the model's buffers: an
    average of them would never arrive.

    A subclass says by `find` what they are, and by `move` how they move.

    Args:
        end: epochs or iterations until they arrive; less than the training has.
        by_epoch: whether `end` counts epochs, and the buffers change with each of them;
            otherwise iterations.
        curve: 'linear', or 'cosine': ``(1 + cos(pi t)) / 2`` with t from 0 to 1.

    Raises:
        ValueError: on another curve, or an end below 1.
    """

    # After EMAHook and before the checkpoint of an iteration.
    priority = "BELOW_NORMAL"

    absent: str
    """What to do if a model has no such buffer."""
    late: str
    """Why they have to arrive before the end of the training."""

    def __init__(self, end: int, by_epoch: bool = True, curve: str = "linear"):
        name = type(self).__name__
        if curve not in ("linear", "cosine"):
            raise ValueError(
                f"{name}: curve must be 'linear' or 'cosine', got {curve!r}."
            )
        if end < 1:
            raise ValueError(f"{name}: end must be >= 1, got {end}.")
        self.end = end
        self.by_epoch = by_epoch
        self.curve = curve

    def find(self, model: nn.Module) -> list[Tensor]:
        """The buffers of a model, in an order that its copies share."""
        raise NotImplementedError

    def move(self, buffer: Tensor, left: float) -> None:
        """Move a buffer on, in place.

        Args:
            buffer: of `find`.
            left: how much of the way is left, from 1 to 0.
        """
        raise NotImplementedError

    def left_at(self, step: int) -> float:
        """How much is left in the epoch or iteration of that number, from 0."""
        progress = min(step / self.end, 1.0)
        if self.curve == "linear":
            return 1 - progress
        # Exactly 0 at the end, where the cosine is not exactly -1 for sure.
        return 0.5 * (1 + math.cos(math.pi * progress)) if progress < 1 else 0.0

    def left_in(self, runner: Runner) -> float:
        """How much is left in the epoch or iteration of a runner."""
        return self.left_at(runner.epoch if self.by_epoch else runner.iter)

    def before_train(self, runner: Runner) -> None:
        """Find the buffers.

        Raises:
            UserError: if there are none, or training ends before they arrive.
        """
        name = type(self).__name__
        self._buffers = self.find(runner.model)
        self._averaged = [
            self.find(hook.ema_model)
            for hook in runner.hooks
            if isinstance(hook, EMAHook)
        ]
        if not self._buffers:
            raise UserError(f"{name}: {self.absent}")
        unit, last = "iterations", runner.max_iters
        if self.by_epoch:
            unit, last = "epochs", runner.max_epochs
        if self.end >= last:
            raise UserError(
                f"{name}: it must end before the training, which has {last} {unit}, "
                f"got end={self.end}; {self.late}."
            )

    def before_train_iter(self, runner: Runner, *_, **__) -> None:
        """Move the buffers to where they are in this iteration."""
        left = self.left_in(runner)
        for buffer in self._buffers:
            self.move(buffer, left)

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        """Copy the buffers into averages of the weights."""
        for averages in self._averaged:
            for average, buffer in zip(averages, self._buffers, strict=True):
                average.copy_(buffer)
