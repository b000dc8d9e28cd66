"""What the memory modes of RevCol cost and how exact they are."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from rich.table import Table
from torch.utils.checkpoint import checkpoint

from mmrev.console import show
from mmrev.datasets.batches import seeded
from mmrev.measure.memory import peak_memory
from mmrev.measure.speed import paired_times
from mmrev.measure.training_step import training_step
from mmrev.models.backbones.revcol import ARCHITECTURES, RevCol
from mmrev.reversible import run_columns
from mmrev.reversible.column import run_level

STOCK = "stock checkpoint per level"
# Of the reports on growth: far enough apart that kept states are few.
ANCHOR_EVERY = 4


@dataclass
class ModeCost:
    """One line of the comparison.

    Attributes:
        arch: size of RevCol.
        image_size: height and width, pixels.
        mode: memory mode, or `STOCK`.
        peak: bytes above the start of the step; parameters and their gradients are
            there before.
        seconds: median of a training step.
    """

    arch: str
    image_size: int
    mode: str
    peak: int
    seconds: float


def stock_checkpoint(columns, x, previous=None, taps=()):
    """As `run_columns`, each level under torch's own checkpointing."""
    call = partial(checkpoint, use_reentrant=False)
    return run_columns(columns, x, previous, taps, partial(run_level, call=call))


def _model(arch: str | dict, mode: str, anchor_every: int | str) -> RevCol:
    memory = "store" if mode == STOCK else mode
    with seeded(0):
        model = RevCol(arch, memory=memory, anchor_every=anchor_every)
        model.init_weights()
    if mode == STOCK:
        model.engine = stock_checkpoint
    return model


def compare_costs(
    arch: str,
    image_size: int,
    modes: tuple[str, ...] = ("store", STOCK, "recompute", "reverse"),
    anchor_every: int | str = 4,
    repeats: int = 7,
    device: str = "cpu",
) -> list[ModeCost]:
    """Measure a training step of every mode, the modes in turn within one run.

    Args:
        arch: size of RevCol.
        image_size: height and width of the one image, pixels.
        modes: what to compare.
        anchor_every: of 'reverse'.
        repeats: timed steps of each mode.
        device: where to run.

    Returns:
        One line a mode.
    """
    image = torch.randn(1, 3, image_size, image_size, device=device)
    peaks, steps = {}, {}
    for mode in modes:
        model = _model(arch, mode, anchor_every).to(device)
        steps[mode] = training_step(model, image)
        steps[mode]()
        peaks[mode] = peak_memory(steps[mode], device)
    times = paired_times(steps, repeats, device)
    return [ModeCost(arch, image_size, m, peaks[m], times[m]) for m in modes]


def growth_per_column(
    arch: str,
    image_size: int,
    mode: str,
    anchor_every: int | str = 4,
    counts: tuple[int, int] = (8, 24),
) -> float:
    """Peak memory that one more column costs, over the bytes of its states.

    Args:
        arch: size whose width and depth are used.
        image_size: height and width of the one image, pixels.
        mode: memory mode.
        anchor_every: of 'reverse'; the counts should be multiples of it.
        counts: numbers of columns to compare.

    Returns:
        The ratio.
    """
    settings = ARCHITECTURES[arch]
    image = torch.randn(1, 3, image_size, image_size)
    peaks = []
    for count in counts:
        model = _model({**settings, "num_columns": count}, mode, anchor_every)
        step = training_step(model, image)
        step()
        peaks.append(peak_memory(step))
    states = 4 * sum(
        channels * (image_size // stride) ** 2
        for channels, stride in zip(settings["channels"], (4, 8, 16, 32), strict=True)
    )
    return (peaks[1] - peaks[0]) / (counts[1] - counts[0]) / states


def parameter_gradient(
    arch: str,
    image_size: int,
    count: int,
    gain: float,
    mode: str,
    anchor_every: int | str = "auto",
    dtype: torch.dtype = torch.float32,
    autocast: bool = False,
) -> torch.Tensor:
    """Gradients of one training step of a seeded model on a seeded image.

    Args:
        arch: size whose width and depth are used, at its own initialisation.
        image_size: height and width of the one image, pixels.
        count: columns.
        gain: value of all gains.
        mode: memory mode.
        anchor_every: of 'reverse'.
        dtype: of parameters and image.
        autocast: whether levels compute in bfloat16.

    Returns:
        All parameter gradients in a row, float64.
    """
    model = _model({**ARCHITECTURES[arch], "num_columns": count}, mode, anchor_every)
    for column in model.columns:
        for parameter in column.gains:
            torch.nn.init.constant_(parameter, gain)
    with seeded(0):  # the same for every mode
        image = torch.randn(1, 3, image_size, image_size, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        levels = model.to(dtype)(image.to(dtype))
    sum(level.square().mean() for level in levels).backward()
    grads = (p.grad for p in model.parameters() if p.grad is not None)
    return torch.cat([grad.flatten().double() for grad in grads])


def print_costs(archs: Sequence[str], sizes: Sequence[int]) -> None:
    """Peak memory and time of a training step, every mode."""
    table = Table("arch", "pixels", "mode", "peak MB", "of stock", "step s", "of store")
    for arch, size in itertools.product(archs, sizes):
        costs = {cost.mode: cost for cost in compare_costs(arch, size)}
        for mode, cost in costs.items():
            table.add_row(
                arch,
                str(size),
                mode,
                f"{cost.peak / 2**20:.1f}",
                f"{cost.peak / costs[STOCK].peak:.3f}",
                f"{cost.seconds:.2f}",
                f"{cost.seconds / costs['store'].seconds:.2f}",
            )
        table.add_section()
    show(table)


def print_growth(archs: Sequence[str], sizes: Sequence[int]) -> None:
    """What one more column costs, over the bytes of its states."""
    table = Table("arch", "pixels", "mode", "growth / states")
    for arch, size, mode in itertools.product(archs, sizes, ("recompute", "reverse")):
        growth = growth_per_column(arch, size, mode, ANCHOR_EVERY)
        table.add_row(arch, str(size), mode, f"{growth:.3f}")
    show(table)


def print_gradient_errors(archs: Sequence[str], sizes: Sequence[int]) -> None:
    """Relative gradient error against plain autograd in float64, 4, 8, 16 columns."""
    table = Table(
        "arch", "pixels", "gain", "columns", "mode", "kept every", "fp32", "bf16"
    )
    modes = [("store", "auto"), ("recompute", "auto")]
    modes += [("reverse", every) for every in ("auto", 2, 4, 8, 16)]
    for arch, size, gain, count in itertools.product(
        archs, sizes, (0.5, 0.9), (4, 8, 16)
    ):
        case = (arch, size, count, gain)
        exact = parameter_gradient(*case, "store", dtype=torch.float64)
        for mode, every in modes:
            if every != "auto" and every > count:
                continue
            errors = [
                (parameter_gradient(*case, mode, every, autocast=autocast) - exact)
                for autocast in (False, True)
            ]
            numbers = [f"{(e.norm() / exact.norm()).item():.1e}" for e in errors]
            kept = str(every) if mode == "reverse" else ""
            table.add_row(arch, str(size), str(gain), str(count), mode, kept, *numbers)
        table.add_section()
    show(table)
