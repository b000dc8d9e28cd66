"""Training a head in memory mode 'recompute'."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmrev.errors import shortened
from mmrev.models.head_memory import recompute_head
from mmrev.registry import HOOKS

__all__ = ["RecomputeHook"]


@HOOKS.register_module()
class RecomputeHook(Hook):
    """Lets a head compute again what the backward pass needs, instead of keeping it.

    In any project of mmdet or mmseg; the tools of this one add it to a config with
    ``head_memory = 'recompute'``.

    Args:
        patterns: of `recompute_head`.

    Raises:
        ValueError: they are no list of words.
    """

    def __init__(self, patterns: Sequence[str] | None = None):
        words = isinstance(patterns, list | tuple) and patterns
        if patterns is not None and not (
            words and all(isinstance(one, str) for one in patterns)
        ):
            raise ValueError(
                "RecomputeHook: expected patterns of names of modules, as "
                f"['encoder.layers.*'], or None, got {patterns!r}."
            )
        self.patterns = patterns

    def apply(self, model: nn.Module) -> list[str]:
        """Change a model, as `recompute_head`."""
        return recompute_head(model, self.patterns)

    def before_train(self, runner: Runner) -> None:
        """Change the model, and say how.

        Raises:
            ValueError: of `recompute_head`.
        """
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        parts = self.apply(model)
        runner.logger.info(
            f"{len(parts)} parts run again in the backward pass: {shortened(parts)}"
        )
