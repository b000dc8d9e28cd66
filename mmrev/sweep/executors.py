"""Where jobs run: processes of this machine, or Slurm's queue; both by submitit."""

import getpass
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import submitit

from mmrev.errors import UserError, nearest
from mmrev.sweep.job import Job

__all__ = ["Executor", "LocalExecutor", "SlurmExecutor"]

_NO_LIMIT_MIN = 10 * 365 * 24 * 60
_ASK_SLURM_EVERY = 5.0


class Executor(Protocol):
    """Runs jobs.

    Attributes:
        ends_with_sweep: Whether no job goes on without the sweep.
    """

    ends_with_sweep: bool

    def has_room(self) -> bool:
        """Whether another job may be submitted now."""

    def submit(self, job: Job, name: str) -> str:
        """Submit a job; its id."""

    def adopt(self, folder: Path) -> str | None:
        """Id of a job of an earlier sweep that still works on a cell."""

    def has_ended(self, job: str) -> bool:
        """Whether a job is over, however it ended."""

    def stop(self, job: str) -> None:
        """Let a job save and end; the second time, end it."""


class LocalExecutor:
    """Processes of this machine, so many at once, each with its share of the GPUs.

    Args:
        folder: Of submitit's files.
        most: Jobs at once; None: as many as have GPUs of their own, at least one.
        gpus: Of each job.

    Raises:
        UserError: There are fewer GPUs than a job needs.
    """

    ends_with_sweep = True

    def __init__(self, folder: Path, most: int | None, gpus: int) -> None:
        found = _visible_gpus()
        if gpus > 1 and len(found) < gpus:
            raise UserError(
                f"gpus: {gpus} of each job, but this machine has {len(found)}; the "
                "batch of a config is that of its GPUs. Change gpus and options of the "
                "suite, or use --slurm."
            )
        gpus = min(gpus, len(found))
        most = most or max(1, len(found) // max(1, gpus))
        self._slots = [
            [found[(slot * gpus + one) % len(found)] for one in range(gpus)]
            for slot in range(most)
        ]
        self._jobs: dict[str, tuple[submitit.Job, list[int]]] = {}
        self._executor = submitit.LocalExecutor(folder)
        self._executor.update_parameters(timeout_min=_NO_LIMIT_MIN, gpus_per_node=gpus)
        # Jobs that each take every core are slower than jobs in turn.
        cores = len(os.sched_getaffinity(0))
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // most)))

    def has_room(self) -> bool:
        """Whether a slot is free."""
        return bool(self._slots)

    def submit(self, job: Job, name: str) -> str:
        """Start a process; the id is that of what controls it."""
        slot = self._slots.pop(0)
        self._executor.update_parameters(visible_gpus=slot)
        # Ctrl-C, or its end, reaches every process of a terminal; what to do then is
        # the sweep's.
        with _ignored(signal.SIGINT, signal.SIGHUP):
            started = self._executor.submit(job)
        self._jobs[started.job_id] = started, slot
        return started.job_id

    def adopt(self, folder: Path) -> str | None:
        """None: a process ends with its sweep."""
        return None

    def has_ended(self, job: str) -> bool:
        """Whether the process is over; its slot is free then."""
        if job in self._jobs and self._jobs[job][0].done():
            _, slot = self._jobs.pop(job)
            self._slots.append(slot)
        return job not in self._jobs

    def stop(self, job: str) -> None:
        """Tell the process, which tells its step."""
        with suppress(ProcessLookupError):
            os.kill(int(job), signal.SIGTERM)


class SlurmExecutor:
    """Slurm's queue. Its jobs need no sweep to go on, only to be followed by others.

    Args:
        folder: Of submitit's files, on a disk that every node sees.
        most: Jobs in the queue at once; None: no limit.
        gpus: Of each job.
        parameters: More of submitit's, as partition and time.

    Raises:
        UserError: There is no Slurm here, or a parameter is none.
    """

    ends_with_sweep = False

    def __init__(
        self, folder: Path, most: int | None, gpus: int, parameters: Mapping[str, Any]
    ) -> None:
        if shutil.which("sbatch") is None or shutil.which("squeue") is None:
            raise UserError(
                "--slurm: no sbatch and squeue here; run it on a login node of the "
                "cluster, or without --slurm."
            )
        own = {"gpus_per_node": gpus} if gpus else {}
        self._parameters = {**own, **parameters}
        # How often a job may be preempted; what does not get on ends by itself.
        self._executor = submitit.SlurmExecutor(folder, max_num_timeout=1_000_000)
        try:
            self._executor.update_parameters(**self._parameters)
        except (ValueError, TypeError) as error:
            raise UserError(f"suite, slurm: {_reason(error, parameters)}") from None
        self._most = most
        self._submitted: set[str] = set()
        self._asked = float("-inf")
        self._queue: dict[str, str] = {}

    def has_room(self) -> bool:
        """Whether the queue holds fewer jobs of this sweep than it may."""
        return self._most is None or len(self._submitted) < self._most

    def submit(self, job: Job, name: str) -> str:
        """Submit a job.

        Raises:
            UserError: Slurm refuses it.
        """
        # By its comment a later sweep finds the job again.
        comment = str(job.folder.resolve())
        self._executor.update_parameters(job_name=name, comment=comment)
        try:
            started = self._executor.submit(job)
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"--slurm: {' '.join(str(error).split())}") from None
        self._submitted.add(started.job_id)
        self._queue[started.job_id] = comment
        return started.job_id

    def adopt(self, folder: Path) -> str | None:
        """The job in the queue whose comment names the folder."""
        self._ask()
        for job, comment in self._queue.items():
            if comment == str(folder.resolve()):
                self._submitted.add(job)
                return job
        return None

    def has_ended(self, job: str) -> bool:
        """Whether it has left the queue; one that is requeued stays in it."""
        self._ask()
        if job in self._queue:
            return False
        self._submitted.discard(job)
        return True

    def stop(self, job: str) -> None:
        """Leave it: jobs go on without the sweep."""

    def _ask(self) -> None:
        if time.monotonic() - self._asked < _ASK_SLURM_EVERY:
            return
        command = [
            "squeue",
            "--noheader",
            "--format=%i %k",
            "--user",
            getpass.getuser(),
        ]
        answer = subprocess.run(command, capture_output=True, text=True)
        self._asked = time.monotonic()
        if answer.returncode:
            return  # Slurm is busy or being restarted: what was known still counts
        lines = (line.partition(" ") for line in answer.stdout.splitlines())
        self._queue = {job: comment for job, _, comment in lines}


def _reason(error: Exception, parameters: Mapping[str, Any]) -> str:
    """What submitit says of parameters; where one is none, without all that are."""
    valid = re.findall(r"- (\w+) \(default", str(error))
    for name in parameters:
        if valid and name not in valid:
            return f"no parameter '{name}'; {nearest(name, valid)}"
    return " ".join(str(error).split())


def _visible_gpus() -> list[int]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    numbers = [int(one) for one in named if one.isdigit()]
    return numbers or list(range(torch.cuda.device_count()))


@contextmanager
def _ignored(*signals: int) -> Iterator[None]:
    before = {one: signal.signal(one, signal.SIG_IGN) for one in signals}
    try:
        yield
    finally:
        for one, earlier in before.items():
            signal.signal(one, earlier)
