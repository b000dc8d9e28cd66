"""The memory modes of a config's backbone for a budget, as ``tools/plan_memory.py``."""

from argparse import Namespace

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from rich.table import Table
from torch import nn

from mmrev.console import quiet
from mmrev.engine.hooks import CouplingHook
from mmrev.errors import UserError
from mmrev.models.backbones.base import Backbone
from mmrev.models.memory_plan import plan_memory, uniform_plans
from mmrev.runs.model import model_config
from mmrev.runs.nodes import components
from mmrev.runs.refusals import named_refusals

__all__ = ["memory_table"]


def memory_table(args: Namespace) -> Table:
    """Measure a training step of the backbone in each mode, and plan for a budget.

    Args:
        args: ``config``, ``safe_config``; ``size``, height and width of the images, and
            their number, ``batch``; ``budget_mb``, of the backbone beside weights and
            gradients, or None; ``device``.

    Returns:
        A row for each mode, and one for the plan.

    Raises:
        UserError: the config has no backbone that plans, or the budget is too small.
    """
    quiet()
    cfg = model_config(args.config, safe=args.safe_config)
    backbone = _backbone(cfg).to(args.device).train()
    shape = (args.batch, 3, *args.size)
    plans = uniform_plans(backbone, shape)
    table = Table("memory, finest level first", "peak MB", "kept MB", "work")
    table.title = f"{type(backbone).__name__}, images of {shape}"
    if args.budget_mb is not None:
        try:
            plans.append(plan_memory(backbone, shape, args.budget_mb))
        except ValueError as error:
            raise UserError(str(error)) from None
        table.caption = f"The last line is the plan for {args.budget_mb:g} MB."
    least = min(plan.flops for plan in plans)
    for plan in plans:
        table.add_row(
            plan.modes[0] if len(set(plan.modes)) == 1 else " ".join(plan.modes),
            f"{plan.peak / 1e6:.1f}",
            f"{plan.kept / 1e6:.1f}",
            f"{plan.flops / least:.2f}",
        )
    return table


def _backbone(cfg: Config) -> nn.Module:
    """The config's backbone; coupled blocks as a training begins with them."""
    for node in components(cfg.model, Backbone):
        node = {**node, "memory": "store", "memory_budget_mb": None, "init_cfg": None}
        with named_refusals(cfg):
            backbone = MODELS.build(node)
        backbone.init_weights()
        for hook in components(cfg.get("custom_hooks", []), CouplingHook):
            if getattr(backbone, "coupling", None) == "dual" and "start" in hook:
                backbone.coefficients.copy_(torch.tensor(hook.start))
        return backbone
    raise UserError(
        f"{cfg.filename}: expected a model with a backbone of mmrev, whose stages have "
        "memory modes, got none."
    )
