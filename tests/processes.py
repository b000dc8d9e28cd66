"""Processes that talk over gloo, started once for all tests that want so many.

Starting processes that import torch and the toolboxes costs more than what any of these
tests computes.
"""

import contextlib
import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist


class Processes:
    """All ranks of one process group; each runs what it is handed."""

    def __init__(self, count: int):
        context = multiprocessing.get_context("spawn")
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
        self.pipes, self.processes = [], []
        for rank in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, count, port, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, function: Callable, *args: Any) -> list:
        """Call ``function(rank, *args)`` in every process.

        Args:
            function: of a module; results come back by pickle, tensors included.
            *args: for it.

        Returns:
            What each rank gave.

        Raises:
            RuntimeError: The call failed; carries the traceback of the process.
        """
        for pipe in self.pipes:
            pipe.send((function, args))
        answers = [self._answer(pipe) for pipe in self.pipes]
        if failed := [text for text, _ in answers if text]:
            raise RuntimeError(failed[0])
        return [result for _, result in answers]

    def _answer(self, pipe: Connection) -> tuple[str, Any]:
        if not pipe.poll(300):
            self.stop()
            raise RuntimeError("a process of the group gives no answer")
        return pipe.recv()

    def stop(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.kill()
            process.join()


def _serve(rank: int, count: int, port: int, pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # as in the tests' own process
    dist.init_process_group(
        "gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=count
    )
    with contextlib.suppress(EOFError):
        while True:
            function, args = pipe.recv()
            try:
                pipe.send(("", function(rank, *args)))
            except Exception:  # also of a result that cannot be sent
                pipe.send((traceback.format_exc(), None))
