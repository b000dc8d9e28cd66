"""Starts the process that checks, and another one where that one is lost.

A kernel that reads a wrong address ends the use of the GPU for the whole process; one
that never ends can only be killed with it. Either costs the check that did it, no more.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from mmrev.console import say
from mmrev.errors import UserError
from mmrev.studies.gpu_check.report import FAILED, LOST, RUNNING, Report

GRACE = 30.0
"""Seconds after its limit until a process that does not stop a check is killed."""


def run(
    out: str | Path,
    device: str = "cuda",
    size: str = "full",
    minutes: float = 8.0,
    only: str = "",
) -> int:
    """Check everything, print each result, leave ``gpu_check.json`` and ``.md``.

    Args:
        out: folder of the two files; an earlier run's are replaced.
        device: 'cuda', 'cuda:1' or 'cpu'.
        size: 'full' or 'tiny'.
        minutes: after so many, what is left counts as not run.
        only: part of the names of the checks to run; empty: all.

    Returns:
        Exit status: 1 if a check of correctness failed, else 0.

    Raises:
        UserError: on a number of minutes that is not above 0.
    """
    if not minutes > 0:
        raise UserError(f"--minutes must be above 0, got {minutes:g}.")
    began = time.time()
    command = [sys.executable, "-m", "mmrev.studies.gpu_check"]
    command += ["--out", str(out), "--device", device, "--size", size, "--only", only]
    command += ["--began", repr(began), "--minutes", repr(minutes)]
    # The other process finds what this one has found, however it was told.
    places = os.pathsep.join(path or os.getcwd() for path in sys.path)
    environment = {**os.environ, "PYTHONPATH": places}
    while True:
        status = supervise(command, out, began, environment)
        report = Report.of_run(out, began)
        if not report.checks:  # it has said why
            return status or 1
        if not mark_lost(report, status):
            say(f"written: {report.json_path}, {report.markdown_path}")
            return int(status != 0)


def supervise(
    command: list[str], out: str | Path, began: float, environment: dict[str, str]
) -> int:
    """Run one process to its end, or kill it where it hangs; its exit status."""
    process = subprocess.Popen(command, env=environment)
    try:
        while process.poll() is None:
            time.sleep(0.5)
            until = Report.of_run(out, began).facts.get("until")
            if until is not None and time.time() > until + GRACE:
                process.kill()
                process.wait()
    finally:
        process.kill()
        process.wait()
    return process.returncode


def mark_lost(report: Report, status: int) -> bool:
    """Fail the check during which a process ended; whether another has to go on."""
    running = [check for check in report.checks if check["status"] == RUNNING]
    for check in running:
        check["status"] = FAILED
        check["message"] = f"the process ended with status {status}"
        if status == -9:
            check["message"] = "did not stop in time, or was killed for its memory"
        say(f"{check['group']}: {check['name']}: failed, {check['message']}")
    report.facts.pop("until", None)
    report.save()
    return bool(running) or status == LOST
