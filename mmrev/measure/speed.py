"""Times that can be compared: all measured in turn, in one run."""

import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Spread", "paired_rounds", "paired_times"]


@dataclass(frozen=True)
class Spread:
    """Where the middle of some numbers lies, and the middle half of them.

    Attributes:
        median: half of them are below it.
        lower: the first quartile, a quarter of them are below it.
        upper: the third quartile.
    """

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of one number or more; quartiles as numpy interpolates them."""
        values = list(values)
        if len(values) == 1:
            return cls(*3 * values)
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, lower, upper)


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
    warm_up: int = 1,
) -> dict[Hashable, list[float]]:
    """Time calls in turn, so that what disturbs the machine disturbs all alike.

    Args:
        steps: the calls by name.
        repeats: rounds.
        device: where they run.
        warm_up: rounds beforehand that are not timed.

    Returns:
        Seconds of a call in each round, by name.
    """
    times = {name: [] for name in steps}
    for _ in range(warm_up):
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
