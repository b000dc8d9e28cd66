"""Runs the checks one by one; none can spoil the next, and none is dropped."""

import math
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from mmrev.console import say
from mmrev.leaderboard.environment import hardware, software
from mmrev.ops import ran
from mmrev.studies.gpu_check.place import Place, exactness
from mmrev.studies.gpu_check.report import (
    CUT_SHORT,
    FAILED,
    LOST,
    MEASURED,
    NEEDS_GPU,
    NOT_RUN,
    PASSED,
    RUNNING,
    Report,
    last_line,
    one_line,
    today,
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """One question to the device.

    Attributes:
        name: of the check, unique.
        group: 'correctness' or 'speed'.
        rows: gives the answers one by one. A row with ``passed`` False, or an error,
            fails the check; ``note`` says why a row has no figure.
        limit: seconds after which it is stopped.
    """

    name: str
    group: str
    rows: Callable[[Place], Iterator[Row]]
    limit: float = 60.0


class OutOfTime(BaseException):
    """A check has had its time; not an `Exception`, which compilers swallow."""


def compared(what: str, error: float, bound: float) -> Row:
    """A row of a comparison; what is no number has failed."""
    passed = math.isfinite(error) and error <= bound
    return {"what": what, "error": error, "bound": bound, "passed": passed}


def work(place: Place, report: Report, checks: Sequence[Check]) -> int:
    """Run what the report does not have yet.

    Args:
        place: where.
        report: with ``began`` and ``minutes`` among its facts; saved after every row.
        checks: in the order of their importance.

    Returns:
        1 if a check of correctness has failed, `LOST` if another process has to go on,
        else 0.
    """
    _describe(place, report)
    end = report.facts["began"] + 60 * report.facts["minutes"]
    for number, check in enumerate(checks, start=1):
        if report.find(check.name):
            continue
        left = end - time.time()
        if left <= 0:
            message = f"the {report.facts['minutes']:g} minutes were over"
            _record(report, check, NOT_RUN, message)
        else:
            _run(place, report, check, min(check.limit, left))
        entry = report.find(check.name)
        text = f"{entry['status']} {entry['message']}".strip()
        say(
            f"[{number}/{len(checks)}] {check.group}: {check.name}: {text} "
            f"({entry['seconds']:.1f} s)"
        )
        if entry["status"] == FAILED and place.is_lost():
            say("the device is lost to this process; another one goes on")
            return LOST
    say(report.summary())
    return int(report.is_wrong)


def _describe(place: Place, report: Report) -> None:
    facts = report.facts
    known = software()
    name = hardware().cpu
    if place.is_gpu:
        properties = torch.cuda.get_device_properties(place.device)
        name = properties.name
        facts["gpu memory GiB"] = round(properties.total_memory / 2**30, 1)
        facts["compute capability"] = f"{properties.major}.{properties.minor}"
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()
        facts["driver"] = _driver()
    facts.update(
        date=facts.get("date", today()),
        device=name,
        cpu=f"{hardware().cpu}, {hardware().cores} cores",
        size=place.size,
        python=known.python,
        versions=known.packages,
        commit=known.commit,
        ops=facts.get("ops", {}),
    )
    report.save()


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version,power.limit"]
    try:
        run = subprocess.run(
            [*command, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip().partition("\n")[0]


def _record(report: Report, check: Check, status: str, message: str = "") -> dict:
    entry = report.find(check.name)
    if entry is None:
        entry = {"name": check.name, "group": check.group, "seconds": 0.0, "rows": []}
        report.checks.append(entry)
    entry.update(status=status, message=message)
    report.save()
    return entry


def _run(place: Place, report: Report, check: Check, limit: float) -> None:
    # Whoever looks after this process kills it some time after this.
    report.facts["until"] = time.time() + limit
    entry = _record(report, check, RUNNING)
    start = time.perf_counter()
    message = ""
    try:
        with stopped_after(limit), exactness(check.group), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for row in check.rows(place):
                entry["rows"].append(dict(row))
                report.save_json()
                if row.get("passed") is False:
                    say(f"  failed: {one_line(row)}")
            place.wait()
        wrong = [row["what"] for row in entry["rows"] if row.get("passed") is False]
        status = PASSED if check.group == "correctness" else MEASURED
        if wrong:
            status, message = FAILED, ", ".join(wrong)
        elif all(row.get("note") == NEEDS_GPU for row in entry["rows"]):
            status = NEEDS_GPU
    except OutOfTime:
        status, message = CUT_SHORT, f"stopped after {limit:.0f} s"
        wrong = [row["what"] for row in entry["rows"] if row.get("passed") is False]
        if wrong:
            status, message = FAILED, f"{', '.join(wrong)}; {message}"
    except Exception as error:
        status, message = FAILED, last_line(error)
    entry["seconds"] = time.perf_counter() - start
    try:
        place.clean()
    except RuntimeError as error:  # of a device that is lost
        status, message = FAILED, message or last_line(error)
    report.facts["ops"] |= ran()
    _record(report, check, status, message)


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block when it has had its time.

    Only between two operations of Python, and only in a process's main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    # Again every few seconds, should a destructor have swallowed it.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
