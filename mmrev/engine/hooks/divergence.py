"""The end of a training that has diverged."""

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmrev.errors import UserError
from mmrev.registry import HOOKS

__all__ = ["DivergenceHook", "divergence"]

# A loss scaler leaves out the step of a loss that is not finite, so that the weights
# stay sound; this often in a row it does not find back.
_MOST_SKIPPED = 10


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Ends a training whose loss or gradient is not finite, before it is saved.

    Reads the numbers that mmengine has logged, so that no GPU is waited for. Gradients
    that are not finite are the normal business of a loss scaler and none of this
    hook's.
    """

    priority = "HIGH"  # after RuntimeInfoHook, which logs; before whatever saves

    def before_train(self, runner: Runner) -> None:
        """Start to count."""
        self._skipped = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Look at the losses of this iteration.

        Raises:
            UserError: Names those that are not finite, the iteration, and remedies.
        """
        scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
        scaled = scaler is not None and scaler.is_enabled()
        names = [name for name in outputs or () if "loss" in name]
        if not scaled:
            names.append("grad_norm")
        logged = runner.message_hub.log_scalars
        found = {
            name: logged[key].current()
            for name in names
            if (key := f"train/{name}") in logged
        }
        broken = [f"{name} {v}" for name, v in found.items() if not math.isfinite(v)]
        self._skipped = self._skipped + 1 if broken else 0
        if broken and not (scaled and self._skipped < _MOST_SKIPPED):
            raise divergence(runner, ", ".join(broken))


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
        "fp16, try optim_wrapper.dtype='bfloat16'. An earlier checkpoint can go on: "
        "--resume FILE."
    )
