"""A config's model as its training has it, without data and without weights to load."""

import copy

from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS
from torch import nn

from mmrev.datasets.batches import seeded
from mmrev.engine.hooks import CouplingHook
from mmrev.runs.head_memory import apply_head_memory
from mmrev.runs.model import unlogged
from mmrev.runs.nodes import custom_hooks
from mmrev.runs.refusals import named_refusals
from mmrev.runs.track import without_weights

__all__ = ["scratch_model", "take_size"]


def scratch_model(cfg: Config) -> nn.Module:
    """Build the model of a config, the same each time, on the CPU.

    What hooks change of it before, or until the end of, a training is done.

    Args:
        cfg: of `load_config`, whose scope has been entered.

    Raises:
        UserError: the config has a mistake.
    """
    own = copy.deepcopy(cfg.model)  # which mmdet writes into
    if cfg.get("data_preprocessor"):  # where mmengine's runner puts it, too
        own.setdefault("data_preprocessor", cfg.data_preprocessor)
    without_weights(own)
    with named_refusals(cfg), seeded(0), unlogged():
        model = MODELS.build(own)
        model.init_weights()
        for settings in custom_hooks(cfg, CouplingHook):
            hook = HOOKS.build(settings)
            for coefficients in hook.find(model):
                hook.move(coefficients, 1.0)
        apply_head_memory(cfg, model)
    return model


def take_size(model: nn.Module, size: tuple[int, int]) -> None:
    """Let a model's data preprocessor leave images of a size (H, W) as they are."""
    preprocessor = model.data_preprocessor
    preprocessor.batch_augments = None  # of fixed sizes, some
    if getattr(preprocessor, "size", None) is not None:
        preprocessor.size = size
