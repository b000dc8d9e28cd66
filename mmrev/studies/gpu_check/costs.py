"""Waits and kernels of a step, where the device can tell them."""

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mmrev.studies.gpu_check.place import Place

_WAIT = "synchronizing CUDA operation"


def host_syncs(place: Place, step: Callable[[], object]) -> Counter[str] | None:
    """Lines of Python at which a step makes the host wait for the GPU, and how often.

    None without a GPU. A wait in the backward pass counts for the line that began it.
    """
    if not place.is_gpu:
        step()
        return None
    place.wait()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Counter(
        f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno}"
        for one in caught
        if _WAIT in str(one.message)
    )


def event_waits(step: Callable[[], object]) -> tuple[int, int]:
    """For how many events a step waits, and how many had not happened by then."""
    there: list[bool] = []
    synchronize = torch.cuda.Event.synchronize

    def counted(event: torch.cuda.Event) -> None:
        there.append(event.query())
        synchronize(event)

    torch.cuda.Event.synchronize = counted
    try:
        step()
    finally:
        torch.cuda.Event.synchronize = synchronize
    return len(there), there.count(False)


def expensive_kernels(
    place: Place, step: Callable[[], object], count: int = 10
) -> list[tuple[str, float, int]]:
    """What a step spends most on: name, milliseconds in all, calls.

    Kernels of the GPU; on a CPU operators, without those that they call.
    """
    activities = [ProfilerActivity.CPU]
    if place.is_gpu:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        step()
        place.wait()
    found = []
    for event in profiler.key_averages():
        on_gpu = event.device_type == DeviceType.CUDA
        # The optimizer's step is named as a whole, too.
        named = event.is_user_annotation or event.key.startswith("Optimizer.")
        if named or on_gpu != place.is_gpu:
            continue
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        found.append((event.key[:90], spent / 1e3, event.count))
    return sorted(found, key=lambda one: -one[1])[:count]
