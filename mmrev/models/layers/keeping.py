"""What may outlive the call that computes it, and what may not."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

Function = TypeVar("Function", bound=Callable)

_caches: list[Callable[[], None]] = []


def is_traced() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace records this call."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_watched() -> bool:
    """Whether a mode sees every operation, as those that count FLOPs."""
    return _get_current_dispatch_mode() is not None


def may_keep() -> bool:
    """Whether a tensor of this call may serve a later one, and an earlier one's this.

    Not while the call is recorded: a trace's tensors are without values, a recording
    lacks what was computed before it, and a CUDA graph goes on reading what it found,
    freed or not. Nor under a mode that sees every operation, as those that make fake
    tensors or count FLOPs.
    """
    return not (
        is_traced()
        or is_watched()
        or (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())
    )


def kept(maxsize: int) -> Callable[[Function], Function]:
    """`functools.lru_cache` for tensors that follow from sizes and a device.

    Args:
        maxsize: results that are kept.

    Returns:
        A decorator; its functions compute anew where nothing may be kept.
    """

    def decorate(function: Function) -> Function:
        cached = lru_cache(maxsize)(function)

        @wraps(function)
        def call(*args):
            if not may_keep():
                return function(*args)
            # A tensor of inference mode could not be used for training later.
            with torch.inference_mode(False):
                return cached(*args)

        call.cache_info, call.cache_clear = cached.cache_info, cached.cache_clear
        _caches.append(cached.cache_clear)
        return call

    return decorate


def forget_kept() -> None:
    """Free what every function of `kept` has, so that the next call computes anew."""
    for clear in _caches:
        clear()
