"""A terminal that shows progress and what needs attention, and nothing else."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from mmrev.text import printable_lines

__all__ = ["hushed", "line_width", "quiet", "say", "show"]

# Warnings that nobody can act on: optional packages which mmdet and mmpretrain look
# for, and old spellings inside the packages themselves.
_HARMLESS = (
    ("faster_coco_eval is not installed", UserWarning),
    (".*", DeprecationWarning),
    (".*", FutureWarning),
    (".*MultiScaleDeformableAttention.*has been moved", ImportWarning),
    ("`reduce_zero_label` will be deprecated", UserWarning),
    ("The shape of value will convert from", UserWarning),
    ("Default ``avg_non_ignore`` is False", UserWarning),
    ("Warning: Profiler clears events", UserWarning),
    ("Setting (OMP|MKL)_NUM_THREADS environment variable", UserWarning),
    # Of torch, on its own way to save a tensor in a folder of parts.
    ("TypedStorage is deprecated", UserWarning),
    ("torch.distributed is disabled, unavailable or uninit", UserWarning),
    ("torch.meshgrid: in an upcoming release", UserWarning),
    # Of predictions that are drawn: a model may look beyond the rim.
    ("Warning: The \\w+ is out of bounds", UserWarning),
    # mmseg's default: validation draws nothing unless it is asked to.
    ("The draw is False", UserWarning),
    # Of the first iterations with accumulated gradients: schedules go by iterations,
    # as mmengine means them, and the first rate is used at the first step.
    ("Detected call of `(lr_)?scheduler.step\\(\\)` before", UserWarning),
)

_UNLIMITED = 100_000


def say(message: str) -> None:
    """Print one line, once for all processes of a distributed run."""
    if os.environ.get("RANK", "0") == "0":
        print(printable_lines(message), flush=True)


def quiet() -> None:
    """Silence the known harmless warnings of the packages below."""
    for message, category in _HARMLESS:
        warnings.filterwarnings("ignore", message=message, category=category)
    # On a full disk every log line would print a traceback of the log handler; the
    # disk is reported when a checkpoint cannot be written.
    logging.raiseExceptions = False
    if find_spec("pycocotools"):  # says each step of reading a file
        import_module("pycocotools.coco").print = _say_nothing


def _say_nothing(*_: Any, **__: Any) -> None:
    """In the place of a module's ``print``."""


@contextmanager
def hushed() -> Iterator[None]:
    """Swallow what is printed, as toolboxes that miss a package of their makers do."""
    with redirect_stdout(StringIO()):
        yield


def line_width() -> int | None:
    """Letters of a line; None where nothing limits them, as in a file or a pipe."""
    console = Console()
    limited = console.is_terminal or "COLUMNS" in os.environ
    return console.width if limited else None


def show(table: Table) -> None:
    """Print a table: words stay whole, if need be in lines longer than a terminal's."""
    least = Console(width=_UNLIMITED).measure(table).minimum
    Console(width=max(line_width() or _UNLIMITED, least)).print(table)
