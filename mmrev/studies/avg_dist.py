"""How far masks hide pixels, by mask ratio and patch size.

Paper: SimMIM, arXiv 2111.09886, section 4.1.2: of masks of many kinds, those whose
AvgDist is between 10 and 20 pixels, in images of 192, gave the best fine-tuned models.
"""

import json
from argparse import Namespace
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from rich.table import Table

from mmrev.atomic import write_bytes
from mmrev.console import quiet, say, show
from mmrev.datasets.masks import NUM_MASKS, SimMIMMaskGenerator
from mmrev.errors import UserError
from mmrev.operating_points.plot import COLOURS
from mmrev.studies.features.plot import FORMATS, MARKERS, SETTINGS

__all__ = ["draw", "measure", "show_distances"]

# Of the paper, pixels of images of 192.
BEST = (10, 20)
BEST_SIZE = 192


def show_distances(args: Namespace) -> None:
    """Measure and print as ``tools/analysis/avg_dist.py`` was asked to.

    Args:
        args: ``size`` of the images, pixels; ``patches``, sides of what is masked as
            one, pixels; ``ratios``; ``out`` and ``plot``, files or None.

    Raises:
        UserError: names the argument at fault.
    """
    quiet()
    for name, suffixes in (("out", (".json",)), ("plot", FORMATS)):
        given = getattr(args, name)
        if given and Path(given).suffix not in suffixes:
            raise UserError(f"--{name} must end in {', '.join(suffixes)}, got {given}.")
    found = measure(args.size, args.patches, args.ratios)
    show(_table(found, args.size, args.patches, args.ratios))
    if args.out:
        content = dict(
            size=args.size,
            patches=args.patches,
            ratios=args.ratios,
            masks=NUM_MASKS,
            avg_dist=found,
        )
        write_bytes(args.out, json.dumps(content, indent=2).encode())
    if args.plot:
        suffix = Path(args.plot).suffix
        write_bytes(
            args.plot, draw(found, args.size, args.patches, args.ratios, suffix)
        )
    for kind, path in (("figures", args.out), ("plot", args.plot)):
        if path:
            say(f"{kind}: {path}")


def measure(
    size: int, patches: Sequence[int], ratios: Sequence[float]
) -> list[list[float]]:
    """AvgDist of SimMIM's masks, pixels; a row a patch size, a column a ratio.

    Raises:
        UserError: a patch does not divide the image, or a ratio masks all or nothing.
    """
    try:
        return [
            [SimMIMMaskGenerator(size, patch, 1, ratio).avg_dist for ratio in ratios]
            for patch in patches
        ]
    except ValueError as error:
        raise UserError(f"--size, --patches, --ratios: {error}") from error


def _table(
    found: Sequence[Sequence[float]],
    size: int,
    patches: Sequence[int],
    ratios: Sequence[float],
) -> Table:
    caption = f"AvgDist, pixels, of images of {size}; means of {NUM_MASKS} masks"
    if size == BEST_SIZE:
        low, high = BEST
        caption += f"; SimMIM's best results lie between {low} and {high}"
    table = Table(caption=caption)
    table.add_column("patch, ratio", justify="right")
    for ratio in ratios:
        table.add_column(f"{ratio:g}", justify="right")
    for patch, row in zip(patches, found, strict=True):
        table.add_row(str(patch), *(f"{value:.1f}" for value in row))
    return table


def draw(
    found: Sequence[Sequence[float]],
    size: int,
    patches: Sequence[int],
    ratios: Sequence[float],
    suffix: str,
) -> bytes:
    """Draw AvgDist over the ratio, a line a patch size.

    Args:
        found: of `measure`.
        size: of the images, pixels.
        patches: sides, pixels.
        ratios: of masks.
        suffix: one of `FORMATS`.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        axes = figure.subplots()
        for number, (patch, row) in enumerate(zip(patches, found, strict=True)):
            axes.plot(
                ratios,
                row,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                label=f"{patch} px",
            )
        if size == BEST_SIZE:
            axes.axhspan(*BEST, color="0.92", zorder=0, label="best in SimMIM")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(
            title=f"masks of images of {size} px",
            xlabel="mask ratio",
            ylabel="from a masked pixel to the nearest\nvisible one: AvgDist, pixels",
        )
        figure.legend(loc="outside right upper", title="patch")
        file = BytesIO()
        figure.savefig(file, format=suffix.removeprefix("."))
    return file.getvalue()
