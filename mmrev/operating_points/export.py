"""One stitch of a stitched model as a model of its own."""

from argparse import Namespace

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmrev.console import quiet
from mmrev.errors import UserError
from mmrev.models.stitching import StitchedBackbone, find_stitched
from mmrev.runs.model import load_model, model_config, new_model_files, write_model
from mmrev.runs.nodes import components

__all__ = ["export_stitch", "load_stitched"]


@torch.no_grad()
def export_stitch(args: Namespace) -> tuple[int, int]:
    """Export as ``tools/export_stitch.py`` was asked to.

    Args:
        args: ``config``, ``safe_config``, ``checkpoint``, ``stitch``, and ``out``, a
            checkpoint to write; the config is written beside it, as ``.py``.

    Returns:
        Parameters of the backbone before and after.

    Raises:
        UserError: names the path or key at fault, or what does not hold of the model;
            then nothing is written.
    """
    quiet()
    files = new_model_files(args.out)
    cfg, model, meta = load_stitched(args)
    whole = find_stitched(model)
    try:
        whole.set_stitch(args.stitch)
    except ValueError as error:
        raise UserError(f"stitch {args.stitch}: {error}") from error
    (settings,) = components(cfg.model, StitchedBackbone)
    settings.update(only=args.stitch, init_cfg=None)
    small = MODELS.build(cfg.model)
    kept = set(small.state_dict())
    weights = {key: v for key, v in model.state_dict().items() if key in kept}
    small.load_state_dict(weights)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, 97, 131, generator=generator)
    levels = [find_stitched(m).eval()(image) for m in (model, small)]
    if not all(map(torch.equal, *levels)):
        raise UserError(
            f"stitch {args.stitch}: without the other weights its output is another; "
            "nothing was written. This is an error of mmrev: please report it."
        )
    # The seed of the training stays known to the record of a test.
    write_model(files, weights, meta, cfg)
    backbones = (whole, find_stitched(small))
    return tuple(sum(p.numel() for p in net.parameters()) for net in backbones)


def load_stitched(args: Namespace) -> tuple[Config, nn.Module, dict]:
    """The model of a config with a stitched backbone, with the checkpoint if given.

    Args:
        args: ``config``, its path, ``safe_config``, and ``checkpoint`` or None.

    Returns:
        Config, model, and what the checkpoint tells of its training.

    Raises:
        UserError: if the backbone is another, or the checkpoint does not fit.
    """
    cfg = model_config(args.config, safe=args.safe_config)
    if len(list(components(cfg.model, StitchedBackbone))) != 1:
        raise UserError(
            f"config {args.config}: expected a model with a mmrev.StitchedBackbone, "
            f"got {cfg.model.get('type')} without."
        )
    return cfg, *load_model(cfg, args.checkpoint)
