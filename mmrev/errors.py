"""The border between a user's mistake and a bug.

``tools/`` answer a mistake with one line that names the path or key and what to do,
and exit status 1. Anything not recognised here is a bug and keeps its traceback.
"""

import difflib
import errno
import functools
import inspect
import itertools
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from types import FrameType

from mmengine.registry.build_functions import build_from_cfg

__all__ = ["UserError", "nearest", "one_line_errors"]


class UserError(Exception):
    """A mistake of the user; the message says what was found and what to do."""


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
    print(f"[rank {rank}] {message}" if rank else message, file=sys.stderr, flush=True)


def explain(error: Exception) -> str | None:
    """Return the line for a user's mistake, None for anything else."""
    if isinstance(error, UserError):
        return str(error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for rule in (_storage, _argument, _component, _own_check, _data):
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


def _argument(error: Exception, frames: list[FrameType]) -> str | None:
    """A constructor refused an argument that stands in the config, or misses one."""
    if not isinstance(error, TypeError):
        return None
    unexpected = re.search(r"(\S+)\(\) got an unexpected keyword .*'(\w+)'", str(error))
    missing = re.search(r"(\S+)\(\) missing \d+ required .*: (.+)", str(error))
    if not (unexpected or missing):
        return None
    # The frame that called the class is the one before the chain of __init__s.
    chain = len(frames)
    while chain and frames[chain - 1].f_code.co_name == "__init__":
        chain -= 1
    if not chain:
        return None
    caller = frames[chain - 1]
    refused = (unexpected or missing)[1].removesuffix(".__init__")
    built = caller.f_locals.get("obj_cls")
    if built is None and caller.f_globals.get("__name__") == "mmengine.runner.runner":
        built = caller.f_globals.get(refused)
    if not inspect.isclass(built) or refused not in {
        base.__qualname__ for base in built.__mro__
    }:
        return None
    name = _named(built, frames[: chain - 1])
    if missing:
        return f"{name}: the config must set {missing[2]}."
    key = unexpected[2]
    in_config = any(
        isinstance(value, dict) and key in value for value in caller.f_locals.values()
    )
    valid = _parameters(built)
    if not in_config or key in valid:
        return None
    return f"{name}: unknown argument '{key}'; {nearest(key, valid)}"


def _component(error: Exception, frames: list[FrameType]) -> str | None:
    """The config names a type that no registry knows, or none at all."""
    build = frames[-1]
    if not isinstance(error, KeyError) or build.f_code is not build_from_cfg.__code__:
        return None
    registry = build.f_locals["registry"]
    if "obj_type" not in build.f_locals:
        keys = ", ".join(map(str, build.f_locals["cfg"]))
        return f"a {registry.name} of the config has no 'type' (it has: {keys})."
    wanted = build.f_locals["obj_type"]
    known = set(registry.module_dict)
    root = registry
    while root.parent is not None:
        root = root.parent
        known |= set(root.module_dict)
    for scope, child in root.children.items():
        known |= {f"{scope}.{name}" for name in child.module_dict}
    return f"unknown {registry.name} type '{wanted}'; {nearest(wanted, known)}"


def _own_check(error: Exception, frames: list[FrameType]) -> str | None:
    """A component of mmrev refused a value or file of the config, or predictions."""
    if not isinstance(error, (ValueError, FileNotFoundError)):
        return None
    module = frames[-1].f_globals.get("__name__", "")
    built = any(frame.f_code is build_from_cfg.__code__ for frame in frames)
    ours = module.startswith(("mmrev.checkpoints.", "mmrev.evaluation.")) or (
        built and module.startswith("mmrev.")
    )
    return str(error) if ours else None


def _data(error: Exception, frames: list[FrameType]) -> str | None:
    """An annotation or image of a data set is missing, damaged, or there are none."""
    # A loader's worker hands its traceback over as text.
    text = str(error)
    in_worker = "in DataLoader worker process" in text
    functions = {frame.f_code.co_name for frame in frames}
    loading = in_worker or bool(functions & {"load_data_list", "transform"})
    if isinstance(error, FileNotFoundError) and loading:
        path = error.filename or text.rstrip().rpartition(": ")[2].strip("'")
        return f"file of the data set not found: {path}; complete the data set."
    if isinstance(error, AssertionError) and "failed to load image" in text:
        path = text.rstrip().rpartition("failed to load image: ")[2]
        return f"not an image that can be read: {path}; replace it."
    if nothing := re.search(r"\w+: none of its \d+ images can be read.*", text):
        return nothing[0]
    for frame in reversed(frames):
        dataset = frame.f_locals.get("self")
        if isinstance(error, json.JSONDecodeError) and hasattr(dataset, "ann_file"):
            return f"not valid JSON ({error}): {dataset.ann_file}; fetch it again."
        if frame.f_code.co_name == "_serialize_data" and not dataset.data_list:
            places = ", ".join(map(str, dict(dataset.data_prefix).values()))
            return (
                f"{type(dataset).__name__} found no image in {places}; "
                "check the folder, the file suffixes and the class names."
            )
    return None


def _parameters(cls: type) -> set[str]:
    """Return the names that a class and its bases accept."""
    names = set()
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
            names |= {p.name for p in parameters if p.kind not in (2, 4)}
    return names


def _named(cls: type, outer: list[FrameType]) -> str:
    """Return the component's name with the one that contains it."""
    parents = [
        frame.f_locals["obj_cls"].__name__
        for frame in outer
        if frame.f_code is build_from_cfg.__code__
    ]
    return cls.__name__ + (f" (in {parents[-1]})" if parents else "")
