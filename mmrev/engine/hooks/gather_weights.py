"""The weights of a model in parts during validation."""

from contextlib import ExitStack

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmrev.engine.strategies.experts import whole_experts
from mmrev.engine.strategies.fsdp2 import gathered
from mmrev.registry import HOOKS

__all__ = ["GatherWeightsHook"]


@HOOKS.register_module()
class GatherWeightsHook(Hook):
    """Lets every process of a run in parts validate with whole weights.

    See `gathered` for a sharded model, `whole_experts` for divided experts. They take
    the room that gradients, activations and the optimizer's work have in training.
    """

    # Whole before any hook calls the model.
    priority = "VERY_HIGH"

    def before_val(self, runner: Runner) -> None:
        """Gather."""
        self._whole = ExitStack()
        self._whole.enter_context(gathered(runner.model))
        self._whole.enter_context(whole_experts(runner.model))

    def after_val(self, runner: Runner) -> None:
        """Let go."""
        self._whole.close()
