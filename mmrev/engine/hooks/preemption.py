"""The end of a run that is asked to go: saved, and to be continued.

Schedulers ask by SIGTERM, and Slurm, before a time limit, by the signal of its option
``--signal``, by custom SIGUSR1. They start again what ends with a status of their
choice; ours is 75, "try again later" of ``sysexits.h``.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import torch
from mmengine.dist import is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import distributed as dist
from torch.utils.data import DataLoader

from mmrev.console import say
from mmrev.engine.hooks.checkpoint import AtomicCheckpointHook
from mmrev.registry import HOOKS

__all__ = ["PreemptionHook", "preemptible"]

_SIGNALS = signal.SIGTERM, signal.SIGUSR1
# What reaches a process within so many seconds is one request: torchrun hands on a
# signal that its processes may have got already.
_SAME_REQUEST = 1.0


class _Request:
    """To this process.

    Attributes:
        signal: by which it came, None before.
        time: when, seconds.
        answered: whether a hook looks at it; before, the process ends at once.
    """

    signal: int | None = None
    time = 0.0
    answered = False


_request = _Request()


@contextmanager
def preemptible() -> Iterator[None]:
    """Take signals for requests to end, while a run is prepared and trained.

    A second one, more than a second later, ends the process as if it were the first.
    """
    global _request
    _request = _Request()
    before = {one: signal.signal(one, _receive) for one in _SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _receive(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _request.signal is None:
        _request.signal, _request.time = number, now
        if not _request.answered:
            _end("before training began; nothing is lost, start it again")
    elif now - _request.time > _SAME_REQUEST:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _end(place: str) -> None:
    name = "another process"
    if _request.signal is not None:
        name = signal.Signals(_request.signal).name
    say(f"asked to end ({name}) {place}")
    raise SystemExit(os.EX_TEMPFAIL)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Ends a training after the iteration in which a process of it was asked to end.

    The run is saved by its checkpoint hook, and the process ends with status 75. All
    processes end after the same iteration, the one after that of the request: each
    tells the others in every iteration, and nobody waits for the answer before the
    next one. While the run is validated, it ends after an image, and is saved as it was
    before; it validates when it is resumed.

    Needs `preemptible` around the run.
    """

    # After the checkpoint of an iteration.
    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        """From here on the run can be saved."""
        self._group = dist.new_group(backend="gloo") if is_distributed() else None
        self._answer: tuple[torch.Tensor, dist.Work] | None = None
        _protect_workers(runner.train_dataloader)
        if runner.val_loop is not None:
            _protect_workers(runner.val_dataloader)
        _request.answered = True

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save and end, if that was asked for."""
        if self._is_asked():
            self._save(runner, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Count the batches that all processes have."""
        count = torch.tensor(len(runner.val_dataloader))
        if self._group is not None:
            dist.all_reduce(count, dist.ReduceOp.MIN, self._group)
        self._common = int(count)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        """Save and end, if that was asked for."""
        if batch_idx < self._common and self._is_asked():
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # gives the model its own weights back
                    hook.after_val_epoch(runner)
            self._save(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Hear the last answer, which comes too late."""
        if self._answer is not None:
            self._answer[1].wait()

    def _is_asked(self) -> bool:
        """Whether any process was, before its last call of this."""
        own = _request.signal is not None
        if self._group is None:
            return own
        flag = torch.tensor(int(own))
        before, self._answer = (
            self._answer,
            (flag, dist.all_reduce(flag, dist.ReduceOp.MAX, self._group, True)),
        )
        if before is None:
            return False
        answer, work = before
        work.wait()
        return bool(answer)

    def _save(self, runner: Runner, iteration: int) -> None:
        place = f"after iteration {iteration}; "
        for hook in runner.hooks:
            if isinstance(hook, AtomicCheckpointHook):
                path = hook.save_interrupted(runner, runner.epoch, iteration)
                place += f"saved as {path}, continue with --resume"
                break
        else:
            place += "it has no hook that could save it"
        if self._group is not None:
            # The first process that ends may take the others with it.
            self._answer[1].wait()
            dist.barrier(self._group)
        _end(place)


def _protect_workers(loader: DataLoader) -> None:
    loader.worker_init_fn = partial(_stay_with_parent, loader.worker_init_fn)


def _stay_with_parent(then: Callable[[int], None] | None, worker: int) -> None:
    """Let a loading worker end with its process, which needs it to the end.

    Many send what is meant for a process to all of its group or container: systemd,
    ``timeout``, Slurm without cgroups.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if then is not None:
        then(worker)


def _end_with(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
