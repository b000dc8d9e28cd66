"""A stream of frames under a changing load, with the stitch controlled or fixed.

What is timed is the backbone alone, one frame at a time, on the CPU: the same as in the
table of ``tools/stitches.py`` that the controller reads. Reading a frame, neck and head
are not part of either.
"""

import math
import os
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Table
from torch import Tensor, nn

from mmrev.atomic import write_bytes
from mmrev.console import quiet, show
from mmrev.errors import UserError
from mmrev.models.stitching import StitchedBackbone, find_stitched
from mmrev.operating_points.controller import LatencyController
from mmrev.operating_points.costs import StitchCost, load_costs, stitch_flops
from mmrev.operating_points.export import load_stitched
from mmrev.operating_points.plot import log_ticks

PHASES = ("calm", "load", "calm again")
# Names of stitches that fit beside the axis.
MOST_LABELS = 16
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class Frame(NamedTuple):
    """One frame of a stream.

    Attributes:
        phase: one of `PHASES`.
        stitch: id of the stitch that it took.
        latency_ms: time that it took, milliseconds.
    """

    phase: str
    stitch: int
    latency_ms: float


def stream_stitches(args: Namespace) -> None:
    """Stream and print as ``tools/analysis/stitch_stream.py`` was asked to.

    Args:
        args: ``config``, ``safe_config``, ``checkpoint``, ``table`` that
            ``tools/stitches.py`` wrote, ``frames``, a folder of images, ``budget_ms``,
            ``count`` of frames, their ``size``, pixels, ``load``, number of processes
            or None for one a core, and ``plot``, a PNG to write, or None.

    Raises:
        UserError: names the path or key at fault.
    """
    quiet()
    processes = (os.cpu_count() or 1) if args.load is None else args.load
    if args.count < len(PHASES) or processes < 1:
        raise UserError(
            f"expected --count >= {len(PHASES)} and --load >= 1, got {args.count} and "
            f"{processes}."
        )
    if args.plot and Path(args.plot).suffix != ".png":
        raise UserError(f"--plot must end in .png, got {args.plot}.")
    costs, controller = _controller(args)
    images = read_frames(args.frames, args.size, args.count)
    _, model, _ = load_stitched(args)
    model.eval()
    backbone = find_stitched(model)
    _check_table(costs, backbone, args)
    step = _timed(model, backbone, images)
    for cost in controller.front:  # The first run of each prepares its kernels.
        step(cost.id, 0)
    start = controller.stitch
    updates = {f"stitch {start} throughout": None, "controlled": controller.update}
    runs = run_streams(step, args.count, processes, start, updates)
    if args.plot:
        ladder = [cost.id for cost in controller.front]
        write_bytes(args.plot, draw_stream(runs, args.budget_ms, ladder))
    table = stream_table(runs, args.budget_ms, costs)
    table.caption = (
        f"backbone alone, {args.size} x {args.size}, CPU, threads: "
        f"{torch.get_num_threads()}; busy processes under load: {processes}"
    )
    show(table)


def run_streams(
    step: Callable[[int, int], float],
    count: int,
    processes: int,
    stitch: int,
    updates: Mapping[str, Callable[[float], int] | None],
) -> dict[str, list[Frame]]:
    """Run streams in turn, frame by frame, the middle third beside busy processes.

    In turn, so that what else disturbs the machine disturbs all alike.

    Args:
        step: runs a stitch on the frame of an index, and returns the milliseconds.
        count: frames of each stream.
        processes: that keep the machine busy.
        stitch: id of the first frames'.
        updates: for each stream, by name, what takes the milliseconds of a frame and
            gives the stitch for the next, as `LatencyController.update`; None keeps
            the first.

    Returns:
        The frames of each, in order.
    """
    streams: dict[str, list[Frame]] = {name: [] for name in updates}
    stitches = dict.fromkeys(updates, stitch)
    bounds = [round(third * count / len(PHASES)) for third in range(len(PHASES) + 1)]
    for phase, (first, last) in zip(PHASES, pairwise(bounds), strict=True):
        with busy(processes if phase == "load" else 0):
            for index in range(first, last):
                for name, update in updates.items():
                    latency = step(stitches[name], index)
                    streams[name].append(Frame(phase, stitches[name], latency))
                    if update is not None:
                        stitches[name] = update(latency)
    return streams


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep the machine busy with processes that do nothing else.

    They end with the block, however it ends, or with this process.
    """
    # A fork needs no second import of torch; all that the child runs is a loop.
    context = get_context("fork")
    workers = [
        context.Process(target=_spin, args=(os.getpid(),), daemon=True)
        for _ in range(processes)
    ]
    try:
        for worker in workers:
            worker.start()
        yield
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.kill()
                worker.join()


def _spin(parent: int) -> None:
    # Ctrl-C reaches the whole group; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.getppid() == parent:
        for _ in range(100_000):
            pass


def read_frames(folder: str | Path, size: int, count: int) -> Tensor:
    """Read the images of a folder, in the order of their names.

    Args:
        folder: is not searched any deeper.
        size: height and width to bring them to, pixels.
        count: images to read at most.

    Returns:
        (images, 3, size, size), blue, green, red, uint8.

    Raises:
        UserError: if there is no such folder, no image in it, or one cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--frames: expected a folder with images, got {folder}.")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)[:count]
    if not paths:
        raise UserError(f"--frames: no image ({', '.join(SUFFIXES)}) in {folder}.")
    frames = []
    for path in paths:
        try:
            with Image.open(path) as image:
                frames.append(np.asarray(image.convert("RGB").resize((size, size))))
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(
                f"not an image that can be read: {path}; replace it."
            ) from error
    # RGB to the order in which OpenMMLab loads images.
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).flip(1)


def _controller(args: Namespace) -> tuple[list[StitchCost], LatencyController]:
    try:
        costs = load_costs(args.table)
        return costs, LatencyController(costs, args.budget_ms)
    except OSError as error:
        raise UserError(
            f"{args.table}: {error.strerror}; make it with tools/stitches.py --out."
        ) from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _check_table(
    costs: Sequence[StitchCost], backbone: StitchedBackbone, args: Namespace
) -> None:
    """Refuse a table of another model, or of images of another size."""
    ours = {id: str(backbone.routes[id]) for id in backbone.stitch_ids}
    remedy = "Make the table anew with tools/stitches.py --out."
    if {cost.id: cost.route for cost in costs} != ours:
        raise UserError(
            f"{args.table}: expected the {len(ours)} stitches of {args.config}, got "
            f"{len(costs)} others. {remedy}"
        )
    if stitch_flops(backbone, [costs[0].id], args.size) != [costs[0].flops]:
        raise UserError(
            f"{args.table}: expected costs of images of --size {args.size}, got those "
            f"of another size or model. {remedy}"
        )


def _timed(
    model: nn.Module, backbone: StitchedBackbone, images: Tensor
) -> Callable[[int, int], float]:
    """The step that `run_streams` takes, with the images over and over."""
    size = images.shape[-1]

    @torch.no_grad()
    def step(stitch: int, index: int) -> float:
        image = images[index % len(images)]
        data = {"inputs": [image], "data_samples": None}
        # What a preprocessor pads is not in the table's images either.
        x = model.data_preprocessor(data, False)["inputs"][..., :size, :size]
        backbone.set_stitch(stitch)
        start = time.perf_counter()
        backbone(x)
        return 1e3 * (time.perf_counter() - start)

    return step


class Summary(NamedTuple):
    """Of the frames of a phase.

    Attributes:
        median_ms: of their latencies.
        p95_ms: their 95th percentile.
        over: share of them that exceeded the budget.
        gmacs: mean of their stitches.
        metric: mean of their stitches; None if a stitch has none.
        switches: frames whose stitch was not that of the frame before.
    """

    median_ms: float
    p95_ms: float
    over: float
    gmacs: float
    metric: float | None
    switches: int


def summarise(
    frames: Sequence[Frame], budget_ms: float, costs: Sequence[StitchCost]
) -> dict[str, Summary]:
    """What a stream was like, by phase.

    Args:
        frames: of `run_streams`.
        budget_ms: largest latency, milliseconds.
        costs: of the stitches.
    """
    by_id = {cost.id: cost for cost in costs}
    before = [frames[0], *frames]
    summaries = {}
    for phase in PHASES:
        pairs = zip(before, frames, strict=False)
        own = [(last, frame) for last, frame in pairs if frame.phase == phase]
        times = np.array([frame.latency_ms for _, frame in own])
        taken = [by_id[frame.stitch] for _, frame in own]
        metrics = [cost.metric for cost in taken]
        summaries[phase] = Summary(
            median_ms=float(np.median(times)),
            p95_ms=float(np.percentile(times, 95)),
            over=float(np.mean(times > budget_ms)),
            gmacs=float(np.mean([cost.flops for cost in taken])) / 1e9,
            metric=None if None in metrics else float(np.mean(metrics)),
            switches=sum(last.stitch != frame.stitch for last, frame in own),
        )
    return summaries


def stream_table(
    runs: dict[str, list[Frame]], budget_ms: float, costs: Sequence[StitchCost]
) -> Table:
    """Streams beside each other, to be printed by rich.

    Args:
        runs: streams by name.
        budget_ms: largest latency, milliseconds.
        costs: of the stitches.
    """
    table = Table(caption_justify="left")
    table.add_column("stream", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    over = f"over {budget_ms:g} ms"
    for name in ("median ms", "95 % ms", over, "GMACs", "metric", "switches"):
        table.add_column(name, justify="right")
    for name, frames in runs.items():
        for phase, row in summarise(frames, budget_ms, costs).items():
            table.add_row(
                name if phase == PHASES[0] else "",
                phase,
                f"{row.median_ms:.1f}",
                f"{row.p95_ms:.1f}",
                f"{row.over:.0%}",
                f"{row.gmacs:.2f}",
                "-" if row.metric is None else f"{row.metric:.4g}",
                str(row.switches),
            )
        table.add_section()
    return table


def draw_stream(
    runs: dict[str, list[Frame]], budget_ms: float, ladder: Sequence[int]
) -> bytes:
    """Latency, budget and stitch over the frames, as PNG.

    Args:
        runs: streams by name, of as many frames each.
        budget_ms: largest latency, milliseconds.
        ladder: ids of the stitches that can be taken, fast to slow.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    # Told apart by the colour-blind, and by their strokes.
    strokes = (("#D55E00", ":"), ("#0072B2", "-"))
    for (name, frames), (colour, dashes) in zip(runs.items(), strokes, strict=True):
        style = dict(color=colour, linestyle=dashes, linewidth=1.3)
        above.plot([frame.latency_ms for frame in frames], label=name, **style)
        rungs = [ladder.index(frame.stitch) for frame in frames]
        below.step(range(len(frames)), rungs, where="mid", **style)
    above.axhline(budget_ms, color="black", linestyle="--", linewidth=1, label="budget")
    loaded = [frame.phase == "load" for frame in next(iter(runs.values()))]
    span = loaded.index(True) - 0.5, len(loaded) - loaded[::-1].index(True) - 0.5
    for axes in (above, below):
        axes.axvspan(*span, color="0.9", zorder=0, label="load")
        axes.spines[["top", "right"]].set_visible(False)
    above.set(ylabel="latency, ms")
    latencies = [frame.latency_ms for frames in runs.values() for frame in frames]
    if ticks := log_ticks([budget_ms, *latencies]):
        above.set_yscale("log")
        above.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        above.minorticks_off()
    place = dict(loc="outside upper center", ncols=4, frameon=False)
    figure.legend(*above.get_legend_handles_labels(), **place)
    below.set(xlabel="frame", ylabel="stitch, fast to slow")
    every = math.ceil(len(ladder) / MOST_LABELS)
    below.set_yticks(range(0, len(ladder), every), ladder[::every])
    file = BytesIO()
    figure.savefig(file, dpi=150)
    return file.getvalue()
