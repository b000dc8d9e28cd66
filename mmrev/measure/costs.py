"""What calls cost: time and memory, all measured in one run, so that they compare."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import truediv

import torch

from mmrev.measure.memory import peak_memory
from mmrev.measure.speed import Spread, paired_rounds

__all__ = ["Cost", "paired_costs"]


@dataclass(frozen=True)
class Cost:
    """Of a call.

    Attributes:
        rounds: seconds that it took in each round of its run.
        peak: bytes that it allocates at its highest point, above those at its start.
        run: what was measured in one call of `paired_costs` has the same one.
    """

    rounds: tuple[float, ...]
    peak: int
    run: object

    @property
    def seconds(self) -> Spread:
        """Of the rounds."""
        return Spread.of(self.rounds)

    def over(self, other: "Cost") -> Spread:
        """How many times the time of another call this one takes, round by round.

        Raises:
            ValueError: if they were measured in different runs. Between them a machine
                has another load, clock and temperature, which may weigh more than what
                is compared.
        """
        if self.run is not other.run:
            raise ValueError(
                "expected costs of one run, got those of two: the ratio of separate "
                "runs would compare what the machine did beside them. Measure both "
                "calls by one paired_costs()."
            )
        return Spread.of(map(truediv, self.rounds, other.rounds))


def paired_costs(
    steps: Mapping[Hashable, Callable[[], object]],
    repeats: int = 7,
    device: str | torch.device = "cpu",
    warm_up: int = 0,
) -> dict[Hashable, Cost]:
    """Measure calls: each one's memory, then the time of all in turn.

    Args:
        steps: the calls by name; one more call of each precedes the measurement of its
            memory, for what is made once and kept.
        repeats: timed rounds.
        device: where they run.
        warm_up: further rounds beforehand that are not timed.

    Returns:
        By name, in the order of the calls.
    """
    peaks = {}
    for name, step in steps.items():
        step()
        peaks[name] = peak_memory(step, device)
    rounds = paired_rounds(steps, repeats, device, warm_up)
    make = partial(Cost, run=object())
    return {name: make(tuple(times), peaks[name]) for name, times in rounds.items()}
