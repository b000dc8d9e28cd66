"""The schedule of faded activations.

Sources: VanillaNet (arXiv 2305.12972, section 3.1; huawei-noah/VanillaNet @6aaf731,
main.py: linear by epoch, cosine as an option) and ReduceNet (ohmydroid/reducenet
@1d89127, main.py: cosine by iteration).
"""

import math

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import nn

from mmrev.errors import UserError
from mmrev.models.layers import FadedReLU
from mmrev.registry import HOOKS

__all__ = ["FadeHook"]


@HOOKS.register_module()
class FadeHook(Hook):
    """Lowers the fade of every faded activation in a model from 1 to 0.

    It never raises one: a resumed run goes on where it was, and weights that are faded
    already stay so. Averaged weights (``EMAHook``) take the fade of the model: an
    average of fades would never be 0.

    Args:
        end: epochs or iterations until the fade is 0; less than the training has.
        by_epoch: whether `end` counts epochs, and the fade changes with each of them;
            otherwise iterations.
        curve: 'linear', or 'cosine': ``(1 + cos(pi t)) / 2`` with t from 0 to 1.

    Raises:
        ValueError: on another curve, or an end below 1.
    """

    # After EMAHook and before the checkpoint of an iteration.
    priority = "BELOW_NORMAL"

    def __init__(self, end: int, by_epoch: bool = True, curve: str = "linear"):
        if curve not in ("linear", "cosine"):
            raise ValueError(
                f"FadeHook: curve must be 'linear' or 'cosine', got {curve!r}."
            )
        if end < 1:
            raise ValueError(f"FadeHook: end must be >= 1, got {end}.")
        self.end = end
        self.by_epoch = by_epoch
        self.curve = curve

    def fade_at(self, step: int) -> float:
        """The fade in the epoch or iteration of that number, from 0."""
        progress = min(step / self.end, 1.0)
        if self.curve == "linear":
            return 1 - progress
        # Exactly 0 at the end, where the cosine is not exactly -1 for sure.
        return 0.5 * (1 + math.cos(math.pi * progress)) if progress < 1 else 0.0

    def before_train(self, runner: Runner) -> None:
        """Find the activations.

        Raises:
            UserError: if there are none, or training ends before the fade does.
        """
        self._activations = _faded(runner.model)
        self._averaged = [
            _faded(hook.ema_model) for hook in runner.hooks if isinstance(hook, EMAHook)
        ]
        if not self._activations:
            raise UserError(
                "FadeHook: the model has no faded activation (it may be deployed "
                "already); remove the hook from custom_hooks."
            )
        unit, last = "iterations", runner.max_iters
        if self.by_epoch:
            unit, last = "epochs", runner.max_epochs
        if self.end >= last:
            raise UserError(
                f"FadeHook: the fade must end before the training, which has {last} "
                f"{unit}, got end={self.end}; what is not faded cannot be deployed."
            )

    def before_train_iter(self, runner: Runner, *_, **__) -> None:
        """Set the fade of this iteration."""
        fade = self.fade_at(runner.epoch if self.by_epoch else runner.iter)
        for activation in self._activations:
            activation.fade.clamp_(max=fade)

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        """Copy the fade into averages of the weights."""
        for activations in self._averaged:
            for average, activation in zip(activations, self._activations, strict=True):
                average.fade.copy_(activation.fade)


def _faded(model: nn.Module) -> list[FadedReLU]:
    return [m for m in model.modules() if isinstance(m, FadedReLU)]
