"""Child processes that do not outlive their parent."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

__all__ = ["ends_with_parent"]

_PR_SET_PDEATHSIG = 1


def ends_with_parent() -> Callable[[], None]:
    """What a child calls before it starts, so that SIGTERM comes if this process ends.

    For ``preexec_fn`` of `subprocess`. The kernel sends it, so however the parent ends;
    on Linux only, elsewhere nothing happens.
    """
    return partial(_end_with, os.getpid())


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
