"""The border between a user's mistake and a bug.

``tools/`` answer a mistake with one line that names the path or key and what to do,
and exit status 1. Anything not recognised here is a bug and keeps its traceback.
"""

import difflib
import errno
import functools
import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from types import FrameType

from mmrev.text import printable_lines

__all__ = ["UserError", "nearest", "one_line_errors", "shortened"]


# What it says of itself; weights and folders may have its name, too.
_TORCHVISION = re.compile(
    r"torchvision::\w|(module|named) '?torchvision\b|torchvision/\S+\.so"
)
# Modules whose ValueErrors are of files, predictions, budgets, sizes and settings, not
# of calls.
_CHECKING = (
    "mmrev.checkpoints.",
    "mmrev.evaluation.",
    "mmrev.limits",
    "mmrev.models.backbones.",
    "mmrev.models.head_memory",
    "mmrev.models.memory_plan",
    "mmrev.models.pretraining.",
    "mmrev.models.supervision.",
)


class UserError(Exception):
    """A mistake of the user; the message says what was found and what to do."""


def shortened(values: Iterable[object], most: int = 5) -> str:
    """List the first of many values."""
    values = list(values)
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint: the closest of the valid names, or some of them if none is."""
    valid = sorted(set(valid))
    if close := difflib.get_close_matches(name, valid, n=5, cutoff=0.6):
        # Of those equally close, the one that begins alike: FPM is FPN, not RFP.
        best = max(close, key=lambda one: (_ratio(name, one), _common(name, one)))
        return f"did you mean '{best}'?"
    shown = ", ".join(valid[:12]) + (", ..." if len(valid) > 12 else "")
    return f"expected one of: {shown}."


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def one_line_errors(main: Callable) -> Callable:
    """Decorate the main function of a tool: mistakes become one line and status 1."""

    @functools.wraps(main)
    def guarded(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt:
            _say("interrupted; a training continues with --resume")
            raise SystemExit(130) from None
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            _say(f"error: {message}")
            raise SystemExit(1) from None

    return guarded


def _say(message: str) -> None:
    # In a distributed run only one process may have met the mistake.
    rank = os.environ.get("RANK")
    message = printable_lines(f"[rank {rank}] {message}" if rank else message)
    print(message, file=sys.stderr, flush=True)


def explain(error: Exception) -> str | None:
    """Return the line for a user's mistake, None for anything else."""
    if isinstance(error, UserError):
        # A loader's worker hands its traceback over as text, and this at its end.
        return str(error).rpartition("UserError: ")[2].strip()
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for rule in (_storage, _torchvision, _nondeterministic, _own_check, _data):
        if message := rule(error, frames):
            return message
    return None


def _storage(error: Exception, frames: list[FrameType]) -> str | None:
    """Disk full, quota, no permission: never the program's fault."""
    advice = {
        errno.ENOSPC: "free some space, then continue with --resume",
        errno.EDQUOT: "free some of your quota, then continue with --resume",
        errno.EACCES: "choose another place or change its permissions",
        errno.EPERM: "choose another place or change its permissions",
        errno.EROFS: "choose a place that can be written",
        errno.ENOTDIR: "a file is where a folder is needed; choose another place",
    }
    if not isinstance(error, OSError) or error.errno not in advice:
        return None
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}; {advice[error.errno]}."


def _torchvision(error: Exception, frames: list[FrameType]) -> str | None:
    """No torchvision, or that of another torch: its first import fails."""
    kinds = (RuntimeError, ImportError, AttributeError, OSError)
    text = str(error).partition("\n")[0]
    if not isinstance(error, kinds) or not _TORCHVISION.search(text):
        return None
    return (
        f"torchvision does not work with the torch that is installed ({text}); install "
        "those of one release, as `pip install torch==2.10.0 torchvision==0.25.0`. "
        "python -m mmrev.doctor says more."
    )


def _nondeterministic(error: Exception, frames: list[FrameType]) -> str | None:
    """An op that torch knows no deterministic form of; on GPUs there are many."""
    op, found, _ = str(error).partition(" does not have a deterministic implementa")
    if not found or not isinstance(error, RuntimeError):
        return None
    return (
        f"--deterministic: {op} cannot give the same bits in every run here; leave "
        "--deterministic out, or run on the CPU (CUDA_VISIBLE_DEVICES=-1)."
    )


def _own_check(error: Exception, frames: list[FrameType]) -> str | None:
    """A component of mmrev refused a value or file of the config, or predictions."""
    if not isinstance(error, (ValueError, FileNotFoundError, FileExistsError)):
        return None
    module = frames[-1].f_globals.get("__name__", "")
    built = any(frame.f_code.co_name == "build_from_cfg" for frame in frames)
    ours = module.startswith(_CHECKING) or (built and module.startswith("mmrev."))
    return str(error) if ours else None


def _data(error: Exception, frames: list[FrameType]) -> str | None:
    """A file of a data set is missing that is not one of its images."""
    # A loader's worker hands its traceback over as text.
    text = str(error)
    in_worker = "in DataLoader worker process" in text
    functions = {frame.f_code.co_name for frame in frames}
    loading = in_worker or bool(functions & {"load_data_list", "transform"})
    if isinstance(error, FileNotFoundError) and loading:
        path = error.filename or text.rstrip().rpartition(": ")[2].strip("'")
        return f"file of the data set not found: {path}; complete the data set."
    return None
