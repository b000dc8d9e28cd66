"""What one job of a sweep does: the steps of one cell that are left.

Each step is a tool in a process of its own, so that its crash ends nothing else. A job
is pickled by submitit, and loads neither torch nor a toolbox.

Told to stop, a job lets its step save and end. Here it is this process that hands the
signal on; Slurm sends it to every process of a job, and a second one would end the
tool at once.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from submitit.helpers import DelayedSubmission

from mmrev.processes import ends_with_parent
from mmrev.sweep.state import (
    Outcome,
    State,
    Weights,
    find_record,
    read_state,
    steps_left,
    write_state,
)
from mmrev.text import printable

__all__ = ["AGAIN", "Job", "Step", "tail_of"]

AGAIN = os.EX_TEMPFAIL
"""Exit status of a tool that was told to stop, has saved, and would continue."""
_POLL = 0.2
_TAIL = 8192
_LONGEST_LINE = 300


@dataclass(frozen=True)
class Step:
    """A run of a tool: 'train' or 'test', and the command."""

    name: str
    command: Sequence[str]


@dataclass
class Job:
    """The steps of one cell.

    Attributes:
        folder: Of the cell.
        steps: Its training, and its test if it has one.
        weights: The checkpoint that the training leaves.
        config_sha256: Of the config, as the record states it.
        start: Folder of the cell that it starts from.
        sweep: The process that watches over a job on this machine, which stops without
            it; None of a job on Slurm, which goes on.
    """

    folder: Path
    steps: Sequence[Step]
    weights: Path
    config_sha256: str
    start: Path | None = None
    sweep: int | None = None

    def __call__(self) -> Outcome:
        """Do what is left.

        Returns:
            What has become of it, which the cell's state tells, too.
        """
        self._process: subprocess.Popen | None = None
        self._told_to_stop = False
        self.folder.mkdir(parents=True, exist_ok=True)
        # A job whose sweep was killed holds the lock until its step has saved.
        lock = FileLock(self.folder / ".job.lock")
        with _handling(signal.SIGTERM, self._stop), lock:
            outcome = self._run_steps()
        if outcome == "again" and self.sweep is None:
            _requeue()
        return outcome

    def checkpoint(self) -> DelayedSubmission:
        """What submitit calls on its signal, before it puts the job back in the queue.

        Returns:
            The same job.
        """
        self._stop(signal.SIGUSR1)
        # The step may be waited for where the signal came: it must not be here, too.
        while self._process is not None and not _has_ended(self._process.pid):
            time.sleep(_POLL)
        self._note(outcome="again")
        return DelayedSubmission(replace(self))

    def _run_steps(self) -> Outcome:
        start = None
        if self.start is not None:
            state = read_state(self.start)
            if state is None or state.weights is None:
                return self._fail(f"{self.start} has no weights to start from")
            start = state.weights.sha256
        names = [step.name for step in self.steps]
        left = steps_left(self.folder, names, self.config_sha256, start)
        self._put_aside_of_other_start(start)
        self._note(outcome="running", error="", start_sha256=start, job=_job_id())
        for step in self.steps:
            if step.name not in left:
                continue
            if self._told_to_stop:
                return self._note(outcome="again")
            before = self._newest()
            status = self._run(step)
            if status and self._told_to_stop:
                return self._note(outcome="again")
            if status == AGAIN and self._newest() != before:
                return self._note(outcome="again")
            if status:
                return self._fail(_reason(status, self._log(step)))
            if step.name == "train":
                if not self.weights.is_file():
                    return self._fail(f"the training ended without {self.weights}")
                self._note(weights=Weights.of(self.weights))
            elif not self._has_record():
                return self._fail("the test left no record of this config and weights")
        return self._note(outcome="done")

    def _run(self, step: Step) -> int:
        """Run a step; its exit status."""
        began = time.monotonic()
        starts, seconds = self._state().starts, self._state().seconds
        starts = {**starts, step.name: starts.get(step.name, 0) + 1}
        self._note(step=step.name, starts=starts)
        with self._log(step).open("ab", buffering=0) as log:
            command = shlex.join(step.command)
            log.write(f"\n{datetime.now():%Y-%m-%d %H:%M:%S} {command}\n".encode())
            self._process = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A step must not go on where nobody sees what becomes of it.
                preexec_fn=ends_with_parent(),
            )
        try:
            while (status := self._process.poll()) is None:
                if not self._told_to_stop and self._is_alone():
                    self._stop(signal.SIGTERM)
                time.sleep(_POLL)
            return status
        finally:
            took = seconds.get(step.name, 0.0) + time.monotonic() - began
            self._note(seconds={**seconds, step.name: round(took, 1)})

    def _stop(self, signum: int, frame: Any = None) -> None:
        """Tell the step to save and end; the second time, end it."""
        again, self._told_to_stop = self._told_to_stop, True
        if self._process is not None and self.sweep is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL if again else signum)

    def _is_alone(self) -> bool:
        if self.sweep is None:
            return False
        try:
            os.kill(self.sweep, 0)
            # Of a process that was killed its parent may not have heard yet.
            stat = Path(f"/proc/{self.sweep}/stat").read_text()
            return stat.rpartition(")")[2].split()[0] == "Z"
        except ProcessLookupError:
            return True
        except OSError:
            return False

    def _newest(self) -> int | None:
        """When the training last saved, as mmengine notes it."""
        note = self.folder / "last_checkpoint"
        return note.stat().st_mtime_ns if note.is_file() else None

    def _has_record(self) -> bool:
        weights = self._state().weights
        return find_record(self.folder, self.config_sha256, weights) is not None

    def _put_aside_of_other_start(self, start: str | None) -> None:
        """Keep what was trained from other weights where nothing continues it."""
        state = read_state(self.folder)
        if state is None or state.start_sha256 == start:
            return
        aside = self.folder.parent / "replaced" / f"{self.folder.name}-{time.time_ns()}"
        aside.mkdir(parents=True)
        for path in self.folder.iterdir():
            if path.name != ".job.lock":
                path.rename(aside / path.name)

    def _log(self, step: Step) -> Path:
        return self.folder / f"{step.name}.log"

    def _state(self) -> State:
        return read_state(self.folder) or State()

    def _note(self, **changes: Any) -> Outcome:
        state = self._state().model_copy(update=changes)
        write_state(self.folder, state)
        return state.outcome

    def _fail(self, error: str) -> Outcome:
        return self._note(outcome="failed", error=error)


def tail_of(log: Path) -> list[str]:
    """The last lines of a log that are not empty, without what steers a terminal."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = (printable(line.strip())[:_LONGEST_LINE] for line in text.splitlines())
    return [line for line in lines if line]


def _reason(status: int, log: Path) -> str:
    last = (tail_of(log) or ["it said nothing"])[-1]
    if status < 0:
        return f"ended by {signal.Signals(-status).name}; its last line: {last}"
    if status == AGAIN:
        return f"asked to be run again without having saved; its last line: {last}"
    return last


def _has_ended(process: int) -> bool:
    """Whether a child is over; it stays to be waited for."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        return os.waitid(os.P_PID, process, flags) is not None
    except ChildProcessError:
        return True


def _job_id() -> str:
    return os.environ.get("SLURM_JOB_ID") or str(os.getpid())


def _requeue() -> None:
    """Put this job of Slurm back in the queue, which ends this process.

    Where Slurm preempts the job it does so itself, and refuses to be told.
    """
    command = ["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]
    subprocess.run(command, stderr=subprocess.DEVNULL)
    sys.exit(AGAIN)  # and leave no result: the job is not over


@contextmanager
def _handling(signum: int, handler: Callable) -> Iterator[None]:
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, before)
