"""``tools/sweep.py``: every cell of a suite, until all are done or have failed."""

import os
import shlex
import signal
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from mmrev.atomic import write_bytes
from mmrev.console import line_width, quiet, show
from mmrev.errors import UserError
from mmrev.leaderboard.table import terminal
from mmrev.runs.folders import require_writable
from mmrev.sweep.cells import Cell, expand, require_inputs, selected
from mmrev.sweep.entries import Entry, left_of, look
from mmrev.sweep.executors import Executor, LocalExecutor, SlurmExecutor
from mmrev.sweep.job import Job, Step
from mmrev.sweep.suite import Suite, read_suite
from mmrev.sweep.view import View, runs_table

__all__ = ["Sweep", "alone", "job_of", "sweep"]

_LOOK_EVERY = 0.5


def sweep(args: Namespace) -> int:
    """Do what is left of a suite, or say what it would cost.

    Args:
        args: ``suite``, path; ``only``, patterns of config names; ``jobs`` at once;
            ``slurm``, whether they go to its queue; ``dry_run``, the minutes that
            pricing may take, or None; ``tflops`` of a GPU, for the price, or None;
            ``safe_config``.

    Returns:
        Exit status: 1 if a cell failed, 130 if it was interrupted.

    Raises:
        UserError: The suite has a mistake, or something that it needs is missing.
    """
    quiet()
    suite = read_suite(args.suite)
    if not Path("tools/train.py").is_file():
        raise UserError(
            f"sweep: {Path.cwd()} is not mmrev's repository (it has no tools/train.py);"
            " run it there."
        )
    for name, least in (("jobs", 1), ("dry_run", 0), ("tflops", 1e-3)):
        given = getattr(args, name)
        if given is not None and not given >= least:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option}: expected at least {least:g}, got {given:g}.")
    with Console(stderr=True).status("reading configs"):
        cells = expand(suite, args.safe_config)
    if args.only:
        cells = selected(cells, args.only)
    entries = look(cells)
    if args.dry_run is not None:
        from mmrev.sweep.pricing import show_prices

        show_prices(suite, entries, args.dry_run, args.jobs, args.tflops)
        return 0
    require_inputs([entry.cell for entry in entries if entry.status == "waiting"])
    require_writable(suite.folder, "out")
    jobs = suite.folder / "jobs"
    with alone(suite.folder):
        executor: Executor
        if args.slurm:
            executor = SlurmExecutor(jobs, args.jobs, suite.gpus, suite.slurm)
        else:
            executor = LocalExecutor(jobs, args.jobs, suite.gpus)
        return Sweep(suite, entries, executor).run()


class Sweep:
    """Sees to the cells of a suite.

    Args:
        suite: Its retries and GPUs.
        entries: Of `look`.
        executor: Runs the jobs.
        view: Shows them.
    """

    def __init__(
        self,
        suite: Suite,
        entries: Sequence[Entry],
        executor: Executor,
        view: View | None = None,
    ) -> None:
        self.suite = suite
        self.entries = entries
        self.executor = executor
        self.view = view or View(suite.name, entries)
        self._of = {entry.cell.folder: entry for entry in entries}

    def run(self) -> int:
        """Run what is left; the exit status as of `sweep`."""
        with self.view, _interrupted_by(signal.SIGTERM, signal.SIGHUP):
            try:
                self._adopt()
                while self._running() or self._ready():
                    self._submit()
                    self.view.update()
                    time.sleep(_LOOK_EVERY)
                    self._collect()
                    self._block()
            except KeyboardInterrupt:
                self._stop()
                return 130
        self._conclude()
        failed = [e for e in self.entries if e.status in ("failed", "blocked")]
        return 1 if failed else 0

    def _running(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.status == "running"]

    def _ready(self) -> list[Entry]:
        """What waits for nothing but a job."""
        found = [
            entry
            for entry in self.entries
            if entry.status == "waiting" and self._may_start(entry)
        ]
        # A chain that was begun goes on before another one begins.
        return sorted(found, key=_depth, reverse=True)

    def _may_start(self, entry: Entry) -> bool:
        start = entry.cell.start
        if "train" not in entry.left:
            return True
        return start is None or self._of[start.folder].status == "done"

    def _adopt(self) -> None:
        for entry in self.entries:
            if entry.left and (job := self.executor.adopt(entry.cell.folder)):
                entry.job, entry.status = job, "running"
                self.view.say(entry, f"goes on as job {job}")

    def _submit(self) -> None:
        for entry in self._ready():
            if not self.executor.has_room():
                return
            job = job_of(entry.cell, self.suite.gpus, self.executor.ends_with_sweep)
            name = f"{entry.cell.model}-seed-{entry.cell.seed}"
            entry.job, entry.status = self.executor.submit(job, name), "running"
            self.view.say(entry, f"job {entry.job}: {', '.join(entry.left)}")

    def _collect(self) -> None:
        for entry in self._running():
            if self.executor.has_ended(entry.job):
                self._judge(entry)

    def _judge(self, entry: Entry) -> None:
        """Decide what follows from how a job ended."""
        entry.left = left_of(entry.cell)
        state = entry.state
        if not entry.left:
            entry.status = "done"
            took = sum(state.seconds.values())
            result = self.view.result(entry)
            self.view.say(entry, f"done in {took:.0f} s{result and f': {result}'}")
            self._look_at_dependents(entry)
            return
        entry.status = "waiting"
        if state.outcome == "again":
            self.view.say(entry, "was stopped, and continues")
            return
        entry.failures += 1
        log = entry.cell.folder / f"{state.step or 'train'}.log"
        entry.error = (
            state.error
            if state.outcome == "failed"
            else f"job {entry.job} ended without a word, as by the end of memory"
        )
        tries = f"{entry.failures} of {self.suite.retries + 1}"
        if entry.failures > self.suite.retries:
            entry.status = "failed"
        told = f"failed ({tries}): {entry.error} ({log})"
        self.view.say(entry, told, urgent=True)

    def _look_at_dependents(self, entry: Entry) -> None:
        """What was done from other weights of a cell is to be done again."""
        for other in self.entries:
            if other.cell.start is entry.cell and other.status == "done":
                other.left = left_of(other.cell)
                other.status = "waiting" if other.left else "done"

    def _block(self) -> None:
        """Give up what starts from a cell that failed."""
        for entry in self.entries:
            start = entry.cell.start
            if entry.status != "waiting" or start is None or self._may_start(entry):
                continue
            if self._of[start.folder].status in ("failed", "blocked"):
                entry.status = "blocked"
                entry.error = f"starts from {start.name}, which failed"

    def _stop(self) -> None:
        """Let jobs save and end, or leave them where they need no sweep."""
        again = shlex.join(["python", *sys.argv])
        if not self.executor.ends_with_sweep:
            jobs = [entry.job for entry in self._running()]
            told = f"; {len(jobs)} jobs stay in the queue (scancel {' '.join(jobs)})"
            self.view.tell(
                f"interrupted{told if jobs else ''}; {again} watches them, and goes on"
            )
            return
        for entry in self._running():
            self.executor.stop(entry.job)
        self.view.tell("stopping: trainings save first; Ctrl-C again ends them at once")
        while running := self._running():
            try:
                for entry in running:
                    if self.executor.has_ended(entry.job):
                        entry.left = left_of(entry.cell)
                        entry.status = "waiting" if entry.left else "done"
                self.view.update()
                time.sleep(_LOOK_EVERY)
            except KeyboardInterrupt:
                for entry in running:
                    self.executor.stop(entry.job)
        self.view.tell(f"interrupted; {again} continues")

    def _conclude(self) -> None:
        records = [entry.record for entry in self.entries]
        if found := [record for record in records if record is not None]:
            show(terminal(found, width=line_width()))
        if (table := runs_table(self.entries)) is not None:
            show(table)
        self.view.conclude()


def job_of(cell: Cell, gpus: int, watched: bool) -> Job:
    """The job that does what is left of a cell."""
    # Literals of Python, as --cfg-options reads them.
    options = ["--cfg-options", *(f"{k}={v!r}" for k, v in cell.options.items())]
    places = ["--work-dir", str(cell.folder), *options]
    if cell.safe:
        places.append("--safe-config")
    launcher = [sys.executable]
    if gpus > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        launcher += [*torchrun, f"--nproc-per-node={gpus}"]
        places += ["--launcher", "pytorch"]
    train = ["tools/train.py", cell.path, "--resume", *cell.train_args]
    steps = [Step("train", [*launcher, *train, *places])]
    if cell.tested:
        test = ["tools/test.py", cell.path, str(cell.checkpoint)]
        steps.append(Step("test", [*launcher, *test, *places]))
    return Job(
        folder=cell.folder,
        steps=steps,
        weights=cell.checkpoint,
        config_sha256=cell.config_sha256,
        start=None if cell.start is None else cell.start.folder,
        sweep=os.getpid() if watched else None,
    )


def _depth(entry: Entry) -> int:
    """How many cells it needs before it."""
    depth, start = 0, entry.cell.start
    while start is not None:
        depth, start = depth + 1, start.start
    return depth


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second sweep off a folder.

    Raises:
        UserError: Another one works there; names its process.
    """
    owner = folder / ".sweep.process"
    lock = FileLock(folder / ".sweep.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        text = owner.read_text() if owner.is_file() else "another process"
        raise UserError(
            f"{folder}: {text} sweeps here already; wait for it, or end it."
        ) from None
    try:
        since = f"{time.strftime('%Y-%m-%d %H:%M:%S')}"
        text = f"process {os.getpid()} on {socket.gethostname()}, since {since},"
        write_bytes(owner, text.encode())
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _interrupted_by(*signals: int) -> Iterator[None]:
    """Take signals for Ctrl-C."""
    handler = signal.default_int_handler
    before = {one: signal.signal(one, handler) for one in signals}
    try:
        yield
    finally:
        for one, earlier in before.items():
            signal.signal(one, earlier)
