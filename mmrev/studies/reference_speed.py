"""Speed and memory of our backbones beside the implementations that people use."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from rich.table import Table

from mmrev.console import show
from mmrev.measure.memory import peak_memory
from mmrev.measure.speed import paired_times
from mmrev.measure.training_step import training_step
from mmrev.registry import MODELS


@dataclass(frozen=True)
class Comparison:
    """Two backbones that compute the same.

    Attributes:
        image_size: height and width, pixels.
        batch: images.
        ours: config.
        reference: config; what the toolboxes' registries know, timm included.
    """

    image_size: int
    batch: int
    ours: dict
    reference: dict


@dataclass(frozen=True)
class Cost:
    """Seconds of a step and how far its allocations rise, bytes."""

    seconds: float
    peak: int


def _swin_v2(arch: str, image_size: int, window: int, batch: int = 1) -> Comparison:
    shared = {"arch": arch, "window_size": window, "drop_path_rate": 0.0}
    return Comparison(
        image_size,
        batch,
        ours={
            "type": "mmrev.SwinTransformerV2",
            "small_maps": "pad",
            "out_norm": "layer_norm",
            **shared,
        },
        reference={
            "type": "mmpretrain.SwinTransformerV2",
            "img_size": image_size,
            "pad_small_map": True,
            "out_indices": (0, 1, 2, 3),
            **shared,
        },
    )


def _nfnet(arch: str, image_size: int, flavour: str, batch: int = 1) -> Comparison:
    return Comparison(
        image_size,
        batch,
        ours={
            "type": "mmrev.NFNet",
            "arch": arch,
            "flavour": flavour,
            "out_indices": (3,),
        },
        reference={
            "type": "mmpretrain.TIMMBackbone",
            "model_name": f"dm_nfnet_{arch.lower()}",
            "num_features": 0,  # without the classifier's convolution
        },
    )


COMPARISONS = {
    "swinv2-t-w8-256px": _swin_v2("tiny", 256, 8),
    "swinv2-t-w16-512px": _swin_v2("tiny", 512, 16),
    "swinv2-t-w8-256px-x2": _swin_v2("tiny", 256, 8, batch=2),
    "nfnet-f0-256px": _nfnet("F0", 256, "deepmind"),
    "nfnet-f0-256px-as-timm": _nfnet("F0", 256, "timm"),
    "nfnet-f0-512px": _nfnet("F0", 512, "deepmind"),
    "nfnet-f0-192px-x4": _nfnet("F0", 192, "deepmind", batch=4),
}


def compare(
    comparison: Comparison, training: bool, repeats: int = 7, device: str = "cpu"
) -> dict[str, Cost]:
    """Measure both backbones in turn, in one run.

    Args:
        comparison: what to build and run.
        training: a forward and a backward pass, parameter gradients allocated before;
            else a forward pass without gradients.
        repeats: timed rounds.
        device: where to run.

    Returns:
        The costs of 'ours' and of the 'reference', in this order.
    """
    size = comparison.image_size
    image = torch.randn(comparison.batch, 3, size, size, device=device)
    steps = {}
    for name in ("ours", "reference"):
        backbone = MODELS.build(getattr(comparison, name)).to(device)
        backbone.train(training)
        evaluate = torch.no_grad()(partial(backbone, image))
        steps[name] = training_step(backbone, image) if training else evaluate
        steps[name]()
    peaks = {name: peak_memory(step, device) for name, step in steps.items()}
    times = paired_times(steps, repeats, device)
    return {name: Cost(times[name], peaks[name]) for name in steps}


def print_speeds(names: Sequence[str]) -> None:
    """Time and peak memory of our backbones beside their references."""
    table = Table(
        "comparison", "pass", "ours s", "reference s", "faster", "ours MB", "ref. MB"
    )
    table.columns[0].no_wrap = True
    table.caption = f"{torch.get_num_threads()} threads, medians of paired runs"
    for name, training in itertools.product(names, (False, True)):
        ours, reference = compare(COMPARISONS[name], training).values()
        table.add_row(
            name,
            "train" if training else "eval",
            f"{ours.seconds:.4f}",
            f"{reference.seconds:.4f}",
            f"{reference.seconds / ours.seconds:.2f}",
            f"{ours.peak / 2**20:.0f}",
            f"{reference.peak / 2**20:.0f}",
        )
    show(table)
