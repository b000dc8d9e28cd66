"""The model of a config as it is used, not trained: read, loaded, written anew."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmrev.atomic import replacing, write_bytes
from mmrev.checkpoints.runs import load_strictly, read_checkpoint
from mmrev.errors import UserError
from mmrev.models.stitching import find_stitched
from mmrev.models.supervision import SupervisedModel
from mmrev.runs.config import load_config
from mmrev.runs.nodes import components
from mmrev.runs.refusals import named_refusals
from mmrev.runs.track import unfreeze

__all__ = [
    "as_used",
    "choose_stitch",
    "load_model",
    "model_config",
    "new_model_files",
    "unlogged",
    "write_model",
]


def model_config(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    safe: bool = False,
) -> Config:
    """Read a config for `as_used`; arguments and errors as of `load_config`."""
    return as_used(load_config(path, overrides, safe))


def as_used(cfg: Config) -> Config:
    """Enter the scope of a config; leave its model without what only trainings need.

    That is supervision, and what keeps a backbone frozen.

    Args:
        cfg: Of `load_config`; is changed.
    """
    init_default_scope(cfg.default_scope)
    for wrapper in list(components(cfg.model, SupervisedModel)):
        cfg.model = wrapper.model
    unfreeze(cfg)
    if cfg.get("data_preprocessor"):  # where mmengine's runner puts it, too
        cfg.model.setdefault("data_preprocessor", cfg.data_preprocessor)
    return cfg


def load_model(cfg: Config, checkpoint: str | Path | None) -> tuple[nn.Module, dict]:
    """Build the model of a config, with the weights of a checkpoint if there is one.

    Args:
        cfg: Of `model_config`.
        checkpoint: Path.

    Returns:
        The model on the CPU, and what the checkpoint tells of its training.

    Raises:
        UserError: The config has a mistake; the checkpoint cannot be read or does not
            fit.
    """
    content = read_checkpoint(checkpoint) if checkpoint else {}
    with named_refusals(cfg):
        model = MODELS.build(cfg.model)
    if not checkpoint:
        return model, {}
    load_strictly(model, content, checkpoint, cfg.filename)
    return model, content.get("meta", {})


@contextmanager
def unlogged() -> Iterator[None]:
    """Log nothing of what is built: every parameter's initialisation is a line."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def choose_stitch(cfg: Config, model: nn.Module) -> None:
    """Of the stitches that a config tests, use the first; else leave the default.

    Raises:
        UserError: The model has no such stitch.
    """
    if stitches := (cfg.get("test_cfg") or {}).get("stitches"):
        try:
            find_stitched(model).set_stitch(stitches[0])
        except ValueError as error:
            raise UserError(f"test_cfg.stitches: {error}") from error


def new_model_files(out: str | Path) -> tuple[Path, Path]:
    """Where a derived model goes: its checkpoint, and its config beside it.

    Raises:
        UserError: The name is no checkpoint's, or a file is there already.
    """
    out = Path(out)
    if out.suffix != ".pth":
        raise UserError(f"OUT must end in .pth, got {out}.")
    files = out, out.with_suffix(".py")
    for path in files:
        if path.exists():
            raise UserError(f"{path} exists already; remove it or name another.")
    return files


def write_model(
    files: tuple[Path, Path], weights: Mapping[str, Tensor], meta: dict, cfg: Config
) -> None:
    """Write a derived model to `new_model_files`; `meta` tells of its training."""
    checkpoint, config = files
    with replacing(checkpoint) as part:
        torch.save({"state_dict": weights, "meta": meta}, part)
    write_bytes(config, cfg.pretty_text.encode())
