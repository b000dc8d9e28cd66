"""From a trained model to its deployed form, checked before it is written."""

import copy
from argparse import Namespace
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.config import Config, ConfigDict
from rich.table import Table
from torch import Tensor, nn

from mmrev.console import quiet
from mmrev.errors import UserError
from mmrev.measure.flops import count_flops
from mmrev.measure.speed import paired_times
from mmrev.models.layers import Deployable
from mmrev.runs.model import load_model, model_config, new_model_files, write_model
from mmrev.runs.nodes import components

__all__ = ["Deployment", "deploy"]

TOLERANCE = 1e-5
"""Largest accepted output difference, relative to the largest output of a level."""
FORMS = ("training form", "deployed")


@dataclass(frozen=True)
class Deployment:
    """What deploying a backbone changed; pairs are of the training form and after it.

    Attributes:
        name: the backbone's class.
        size: height and width of the image, pixels.
        params: numbers of parameters.
        flops: multiply-adds of an image.
        seconds: median time of an image on the CPU.
        difference: largest difference of an output, relative to the largest output of
            its level; both run in fp64, since in fp32 the training form alone is off by
            several times as much.
    """

    name: str
    size: int
    params: tuple[int, int]
    flops: tuple[int, int]
    seconds: tuple[float, float]
    difference: float

    def table(self) -> Table:
        """The same to read, to be printed by rich."""
        table = Table(
            title=f"{self.name}, one image of {self.size} px on the CPU",
            caption=f"largest output difference {self.difference:.1e}, relative (fp64)",
            caption_justify="left",
        )
        for column in ("", "params M", "GMACs", "ms"):
            table.add_column(column, justify="right")
        for form, *values in zip(
            FORMS, self.params, self.flops, self.seconds, strict=True
        ):
            units = zip(values, (1e6, 1e9, 1e-3), strict=True)
            table.add_row(form, *(f"{value / unit:.2f}" for value, unit in units))
        return table


def deploy(args: Namespace) -> Deployment:
    """Deploy as ``tools/deploy.py`` was asked to.

    Args:
        args: ``config``, ``safe_config``, ``checkpoint``, ``out`` (checkpoint to write;
            the config is written beside it, as ``.py``), and ``size`` of the image to
            compare with.

    Returns:
        What it changed.

    Raises:
        UserError: Names the path or key at fault, or what does not hold of the model;
            then nothing is written.
    """
    quiet()
    files = new_model_files(args.out)
    cfg = model_config(args.config, safe=args.safe_config)
    settings = _settings_of_backbone(cfg)
    model, meta = load_model(cfg, args.checkpoint)
    backbone = next(m for m in model.eval().modules() if isinstance(m, Deployable))
    trained = copy.deepcopy(backbone)
    try:
        backbone.switch_to_deploy()
    except ValueError as error:
        raise UserError(f"checkpoint {args.checkpoint}: {error}") from error
    result = _compare(trained, backbone, settings.get("in_channels", 3), args.size)
    if not result.difference <= TOLERANCE:
        raise UserError(
            f"checkpoint {args.checkpoint}: the deployed form differs by "
            f"{result.difference:.1e}, expected at most {TOLERANCE:.0e}; nothing was "
            "written. Its weights or statistics may be very uneven."
        )
    settings.update(deploy=True, init_cfg=None)
    write_model(files, model.state_dict(), meta, cfg)
    return result


def _settings_of_backbone(cfg: Config) -> ConfigDict:
    """The part of the config that is to say ``deploy=True``."""
    found = list(components(cfg.model, Deployable))
    if len(found) != 1:
        raise UserError(
            f"config {cfg.filename}: expected one backbone that can be deployed "
            f"(mmrev.VanillaNet or mmrev.ReduceNet), got {len(found)}."
        )
    if found[0].get("deploy"):
        raise UserError(f"config {cfg.filename}: the backbone is deployed already.")
    return found[0]


@torch.no_grad()
def _compare(
    trained: nn.Module, deployed: nn.Module, in_channels: int, size: int
) -> Deployment:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, in_channels, size, size, generator=generator)
    models = (trained, deployed)
    seconds = paired_times({model: partial(model, image) for model in models})
    levels = [copy.deepcopy(model).double()(image.double()) for model in models]
    return Deployment(
        name=type(trained).__name__,
        size=size,
        params=tuple(sum(p.numel() for p in model.parameters()) for model in models),
        flops=tuple(count_flops(model, image) for model in models),
        seconds=tuple(seconds.values()),
        difference=max(map(_difference, *levels)),
    )


def _difference(expected: Tensor, found: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()
