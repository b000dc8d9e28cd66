"""The memory mode of a config's head: ``head_memory``, or a hook."""

from mmengine.config import Config
from mmengine.registry import HOOKS
from torch import nn

from mmrev.engine.hooks import RecomputeHook
from mmrev.errors import UserError
from mmrev.models.head_memory import HEAD_MEMORY, recompute_head
from mmrev.runs.nodes import custom_hooks

__all__ = ["apply_head_memory", "head_memory"]


def head_memory(cfg: Config) -> str:
    """The mode that a config states.

    Raises:
        UserError: there is no such mode.
    """
    memory = cfg.get("head_memory", HEAD_MEMORY[0])
    if memory not in HEAD_MEMORY:
        raise UserError(
            f"head_memory: expected one of {', '.join(HEAD_MEMORY)}, got {memory!r}."
        )
    return memory


def apply_head_memory(cfg: Config, model: nn.Module) -> None:
    """Let a model that no runner trains do so as the config's would.

    Args:
        cfg: of `load_config`.
        model: built of it; changed in place.

    Raises:
        UserError: of `head_memory`.
        ValueError: of `recompute_head`.
    """
    if head_memory(cfg) == "recompute":
        recompute_head(model)
    for settings in custom_hooks(cfg, RecomputeHook):
        HOOKS.build(settings).apply(model)
