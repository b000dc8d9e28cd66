"""Measures as ``tools/benchmark.py`` is asked to, or shows what it has measured."""

import re
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

import torch

from mmrev.atomic import write_bytes
from mmrev.console import show
from mmrev.errors import UserError
from mmrev.leaderboard.environment import hardware, software
from mmrev.runs.config import load_config
from mmrev.runs.typical import image_size
from mmrev.studies.benchmark.arguments import OWN, PLAIN, TASKS
from mmrev.studies.benchmark.measuring import measure
from mmrev.studies.benchmark.report import Benchmark, load, measurements, save, table
from mmrev.studies.devices import require_device

__all__ = ["run"]

SMALLEST = 32
"""Pixels: the stride of the last level."""
DEFAULT_SIZE = (224, 224)
"""Of backbones."""


def run(args: Namespace) -> None:
    """Measure or show, and print a table.

    Args:
        args: of `mmrev.studies.benchmark.arguments`.

    Raises:
        UserError: names what is at fault.
    """
    if args.out and not args.out.endswith(".json"):
        raise UserError(f"--out must end in .json, got {args.out}.")
    draw = _drawing(args.plot or ())
    for path in filter(None, (args.out, *(args.plot or ()))):
        _require_writable(path)
    if all(what.endswith(".json") for what in args.what):
        found = _saved(args)
    else:
        found = {args.what[0]: _measured(_checked(args))}
    show(table(found))
    for path, drawing in draw.items():
        write_bytes(path, drawing(found))


def _saved(args: Namespace) -> dict[str, Benchmark]:
    """Benchmarks of files, by their names."""
    if args.against:
        raise UserError(_separate(args.against))
    if args.out:
        raise UserError(f"--out is of what is measured, got files: {args.what[0]}.")
    return {Path(path).stem: load(path) for path in args.what}


def _measured(args: Namespace) -> Benchmark:
    groups = []
    for group in measure(args):
        groups.append(group)
        benchmark = Benchmark(
            date=datetime.now(timezone.utc),
            device=args.device,
            threads=torch.get_num_threads(),
            repeats=args.repeats,
            warm_up=args.warm_up,
            measurements=measurements(groups),
            software=software(),
            hardware=hardware(),
        )
        if args.out:  # every time: an interruption takes away no more than it must
            save(benchmark, args.out)
    return benchmark


def _checked(args: Namespace) -> Namespace:
    """The same with sizes as numbers, and options that are not given as none."""
    if len(args.what) > 1:
        raise UserError(
            f"expected one model, or files of --out alone, got {' '.join(args.what)}; "
            "compare models by --against, in one run."
        )
    if (args.against or "").endswith(".json"):
        raise UserError(_separate(args.against))
    least_of = {"batch": 1, "boxes": 1, "repeats": 1, "warm_up": 0}
    for name, least in least_of.items():
        given = getattr(args, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and value < least:
                option = name.replace("_", "-")
                raise UserError(f"--{option}: expected at least {least}, got {value}.")
    if args.backbone and not args.what[0].endswith(".py"):
        raise UserError(f"--backbone is of a config, got {args.what[0]}.")
    if args.against_options and not args.against:
        raise UserError("--against-options are of --against, which is not given.")
    if args.against == OWN and not (args.against_options or args.deployed):
        raise UserError(
            "--against own: expected what is otherwise, by --against-options, or "
            "--deployed, got neither."
        )
    if args.against == PLAIN and args.against_options:
        raise UserError("--against plain has the settings of the model, and no others.")
    if args.deployed and "train" in (args.task or ()):
        raise UserError(
            "--deployed: expected --task forward, got train; the deployed form is not "
            "trained."
        )
    require_device(args.device)
    changed = dict(
        task=args.task or list(TASKS[:1] if args.deployed else TASKS),
        size=[_size(text) for text in args.size or ()] or [_default_size(args)],
        cfg_options=args.cfg_options or {},
        against_options=args.against_options or {},
    )
    return Namespace(**{**vars(args), **changed})


def _separate(path: str) -> str:
    return (
        f"--against {path}: there is no ratio of separate runs, between which a "
        "machine has another load, clock and temperature; measure both in one run."
    )


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise UserError(f"--size: expected pixels, as 512 or 800x1216, got {text}.")
    height, width = int(found[1]), int(found[2] or found[1])
    if min(height, width) < SMALLEST:
        raise UserError(
            f"--size: expected at least {SMALLEST} pixels, the stride of the last "
            f"level, got {text}."
        )
    return height, width


def _default_size(args: Namespace) -> tuple[int, int]:
    if not args.what[0].endswith(".py"):
        return DEFAULT_SIZE
    return image_size(load_config(args.what[0], args.cfg_options, args.safe_config))


def _require_writable(path: str) -> None:
    """Find out before hours are spent."""
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def _drawing(
    paths: list[str],
) -> dict[str, Callable[[Mapping[str, Benchmark]], bytes]]:
    """What draws each file, by its name's end."""
    found = {}
    for path in paths:
        try:
            if path.endswith(".html"):
                from mmrev.studies.benchmark.page import draw_html as draw
            elif path.endswith(".png"):
                from mmrev.studies.benchmark.picture import draw_png as draw
            else:
                raise UserError(f"--plot: expected .html or .png, got {path}.")
        except ModuleNotFoundError as error:
            package = error.name.partition(".")[0]
            raise UserError(
                f"--plot needs {package}: pip install {package}."
            ) from error
        found[path] = draw
    return found
