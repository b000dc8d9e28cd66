"""Memory of a training step."""

import os
from collections.abc import Callable

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
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.nbytes()]
    level = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak
