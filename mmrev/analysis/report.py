"""The reports of tools/analysis/."""

import itertools
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from mmrev.analysis.memory_modes import (
    STOCK,
    compare_costs,
    growth_per_column,
    parameter_gradient,
)
from mmrev.analysis.reference_speed import COMPARISONS, compare

ANCHOR_EVERY = 4


def print_costs(archs: Sequence[str], sizes: Sequence[int]) -> None:
    """Peak memory and time of a training step, every mode."""
    table = _table(
        "arch", "pixels", "mode", "peak MB", "of stock", "step s", "of store"
    )
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
    Console().print(table)


def print_growth(archs: Sequence[str], sizes: Sequence[int]) -> None:
    """What one more column costs, over the bytes of its states."""
    table = _table("arch", "pixels", "mode", "growth / states")
    for arch, size, mode in itertools.product(archs, sizes, ("recompute", "reverse")):
        growth = growth_per_column(arch, size, mode, ANCHOR_EVERY)
        table.add_row(arch, str(size), mode, f"{growth:.3f}")
    Console().print(table)


def print_gradient_errors(archs: Sequence[str], sizes: Sequence[int]) -> None:
    """Relative gradient error against plain autograd in float64, 4, 8, 16 columns."""
    table = _table(
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
    Console().print(table)


def print_speeds(names: Sequence[str]) -> None:
    """Time and peak memory of our backbones beside their references."""
    table = _table(
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
    Console().print(table)


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column)
    return table
