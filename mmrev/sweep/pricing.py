"""What the cells of a suite cost, before any is trained."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import (
    Future,
    ProcessPoolExecutor,
    TimeoutError,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from mmrev.atomic import write_bytes
from mmrev.console import quiet, show
from mmrev.errors import UserError
from mmrev.runs.config import load_config
from mmrev.runs.plan import Price, price
from mmrev.sweep.cells import Cell
from mmrev.sweep.entries import Entry
from mmrev.sweep.suite import Suite

__all__ = ["show_prices"]


@dataclass(frozen=True)
class _Unpriced:
    """Why a config has no price."""

    reason: str


def show_prices(
    suite: Suite,
    entries: Sequence[Entry],
    minutes: float,
    jobs: int | None = None,
    tflops: float | None = None,
) -> None:
    """Print what is left of a suite, and its price.

    Prices are kept in the suite's folder: the next time they cost nothing, and more
    are added.

    Args:
        suite: Its GPUs.
        entries: Its cells.
        minutes: That pricing may take.
        jobs: Configs that are priced at once; None: as many as there are cores.
        tflops: What a GPU does, as `mmrev.runs.plan.price` has it.
    """
    settings: dict[Path, list[Entry]] = {}
    for entry in entries:
        settings.setdefault(entry.cell.folder.parent, []).append(entry)
    cells = {folder: seeds[0].cell for folder, seeds in settings.items()}
    cores = len(os.sched_getaffinity(0))
    prices = _prices(suite, cells, jobs or cores, minutes)
    gpus = max(1, suite.gpus)
    table = Table(
        *("config", "seeds", "left"),
        **dict(box=box.HORIZONTALS, pad_edge=False, show_edge=False),
        **dict(show_footer=True, caption_justify="left"),
    )
    for name in ("GMACs a step", "GB", "s a step", "hours"):
        table.add_column(name, justify="right", no_wrap=True)
    hours, unknown = 0.0, 0
    for folder, seeds in settings.items():
        found = prices[folder]
        if isinstance(found, Price) and tflops is not None:
            found = _at(found, tflops)
        training = sum("train" in entry.left and _is_left(entry) for entry in seeds)
        row = [seeds[0].cell.model, str(len(seeds)), _left(seeds)]
        if isinstance(found, _Unpriced):
            row += ["", "", "", found.reason]
            unknown += training
        else:
            row += _texts(found, training)
            hours += (found.hours or 0.0) * training
            unknown += training if found.hours is None else 0
        table.add_row(*map(Text, row))
    table.columns[0].footer = f"total, {len(settings)} configs"
    table.columns[-1].footer = _hours(hours)
    where = f"at {tflops:g} TFLOPS" if tflops else "of this machine's CPU"
    table.caption = (
        f"Training alone, what is left, on {gpus} GPU{'s' * (gpus > 1)} a job; times "
        f"{where}; GB: all that torch allocates on a device."
        + (f" Not in the total: {unknown} cells without a price." if unknown else "")
    )
    show(table)


def _prices(
    suite: Suite, cells: Mapping[Path, Cell], jobs: int, minutes: float
) -> dict[Path, Price | _Unpriced]:
    """Each setting's price, by its folder."""
    gpus = max(1, suite.gpus)
    files = {
        folder: suite.folder / "prices" / f"{folder.name}-{gpus}.json"
        for folder in cells
    }
    found = {folder: _kept(file) for folder, file in files.items()}
    missing = [
        folder for folder, known in found.items() if isinstance(known, _Unpriced)
    ]
    if not missing or not minutes:
        return found
    # Started anew, since the toolboxes are no friends of forks.
    pool = ProcessPoolExecutor(min(jobs, len(missing)), get_context("spawn"))
    tasks = {pool.submit(_priced, _task(cells[one]), gpus): one for one in missing}
    finished = as_completed(tasks, 60 * minutes)
    console = Console(stderr=True)
    try:
        for task in track(finished, "pricing", len(tasks), console=console):
            folder = tasks[task]
            found[folder] = _outcome(task)
            if isinstance(found[folder], Price):
                content = json.dumps(asdict(found[folder])).encode()
                write_bytes(files[folder], content)
    except TimeoutError:
        pass
    finally:
        for process in active_children():
            process.kill()
        pool.shutdown(cancel_futures=True)
    return found


def _kept(file: Path) -> Price | _Unpriced:
    try:
        return Price(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return _Unpriced("not priced yet")


def _task(cell: Cell) -> tuple[str, dict[str, Any], bool]:
    return cell.path, dict(cell.options), cell.safe


def _priced(task: tuple[str, dict[str, Any], bool], gpus: int) -> Price:
    """Price a config, in a process of its own."""
    quiet()
    torch.set_num_threads(1)
    return price(load_config(*task), gpus)


def _outcome(task: Future) -> Price | _Unpriced:
    """A price; what goes wrong with one keeps no other back."""
    try:
        return task.result()
    except UserError as error:
        return _Unpriced(str(error))
    except BrokenProcessPool:
        return _Unpriced("a process ended without a word, as by the end of memory")
    except Exception as error:
        return _Unpriced(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _at(found: Price, tflops: float) -> Price:
    """The price on a device of so much, of which the CPU's time tells nothing."""
    seconds = 2 * found.flops / (tflops * 1e12)
    hours = found.hours and found.hours * seconds / found.seconds
    return replace(found, seconds=seconds, hours=hours)


def _texts(found: Price, training: int) -> list[str]:
    hours = "unknown" if found.hours is None else _hours(found.hours * training)
    return [
        f"{found.flops / 1e9:,.3g}"
        if found.flops < 1e12
        else f"{found.flops / 1e9:,.0f}",
        f"{found.peak / 1e9:.3g}",
        f"{found.seconds:.3g}",
        hours,
    ]


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _is_left(entry: Entry) -> bool:
    return entry.status == "waiting"


def _left(seeds: Sequence[Entry]) -> str:
    """What is left of a setting, of all its seeds."""
    steps = [" + ".join(entry.left) for entry in seeds if _is_left(entry)]
    counts = {step: steps.count(step) for step in steps}
    told = [
        step if count == len(seeds) else f"{step} ({count})"
        for step, count in counts.items()
    ]
    return ", ".join(told) or seeds[0].status
