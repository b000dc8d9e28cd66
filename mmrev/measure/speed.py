"""Times that can be compared: all measured in turn, in one run."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping

import torch


def paired_times(
    steps: Mapping[Hashable, Callable[[], object]],
    repeats: int = 7,
    device: str | torch.device = "cpu",
) -> dict[Hashable, float]:
    """Median seconds of calls; arguments as of `paired_rounds`."""
    rounds = paired_rounds(steps, repeats, device)
    return {name: statistics.median(times) for name, times in rounds.items()}


def paired_rounds(
    steps: Mapping[Hashable, Callable[[], object]],
    repeats: int = 7,
    device: str | torch.device = "cpu",
) -> dict[Hashable, list[float]]:
    """Time calls in turn, so that what disturbs the machine disturbs all alike.

    Args:
        steps: the calls by name; each is made once beforehand, untimed.
        repeats: rounds.
        device: where they run.

    Returns:
        Seconds of a call in each round, by name.
    """
    times = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            _wait(device)
            start = time.perf_counter()
            step()
            _wait(device)
            times[name].append(time.perf_counter() - start)
    return times


def _wait(device: str | torch.device) -> None:
    if torch.device(device).type != "cpu":
        torch.get_device_module(device).synchronize()
