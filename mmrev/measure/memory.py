"""Memory of a training step."""

import os
import resource
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

# The profiler calls the absence of a GPU an error.
os.environ.setdefault("KINETO_LOG_LEVEL", "5")


def peak_memory(step: Callable[[], object], device: str | torch.device = "cpu") -> int:
    """Measure how far allocations rise during a call.

    On the CPU the allocator's own events are summed, so that every byte a kernel asks
    for counts; on a GPU it is the caching allocator's peak. What lived before the call
    does not count, nor does what is not torch's.

    Args:
        step: the call.
        device: where it allocates.

    Returns:
        Bytes at the highest point above those at the start.
    """
    device = torch.device(device)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        module.reset_peak_memory_stats(device)
        start = module.memory_allocated(device)
        step()
        return module.max_memory_allocated(device) - start
    return max(accumulate(_changes(step), initial=0))


def held_memory(call: Callable[[], object], device: str | torch.device = "cpu") -> int:
    """Measure what the result of a call holds: bytes that stay allocated with it.

    Args:
        call: the call.
        device: where it allocates.
    """
    device, results = torch.device(device), []
    if device.type == "cpu":
        return sum(_changes(lambda: results.append(call())))
    module = torch.get_device_module(device)
    start = module.memory_allocated(device)
    results.append(call())
    return module.memory_allocated(device) - start


def _changes(call: Callable[[], object]) -> list[int]:
    """Bytes that the CPU's allocator gave out, or took back, one after the other."""
    return [change for _, change in traced(call) if change]


def traced(call: Callable[[], object]) -> list[tuple[str, int]]:
    """What happens during a call, in order: names of events and the bytes they take.

    A positive number was given out by the CPU's allocator, a negative one taken back;
    it is 0 for events of other kinds, as those of ``record_function``.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = profiler.profiler.kineto_results.events()
    return [(e.name(), e.nbytes()) for e in sorted(events, key=lambda e: e.start_ns())]


def process_peak(step: Callable[[], object], device: str | torch.device = "cpu") -> int:
    """Measure what this process holds at most during a call, whoever asked for it.

    On the CPU that is libraries and weights, too, so that it should be a process of its
    own, which does nothing else; on a GPU it is what torch has reserved there.

    Args:
        step: the call.
        device: where it runs.

    Returns:
        Bytes.
    """
    device = torch.device(device)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        module.reset_peak_memory_stats(device)
        step()
        return module.max_memory_reserved(device)
    status = Path("/proc/self/status")
    if not status.exists():  # no Linux: the highest point since the process began
        step()
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return kibibytes * (1 if sys.platform == "darwin" else 1024)
    # The kernel's maximum, from here on.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    step()
    text = status.read_text(encoding="ascii")
    return 1024 * int(text.partition("VmHWM:")[2].split()[0])
