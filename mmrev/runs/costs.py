"""What a training step costs: measured on small images, told for large ones.

What the blocks of a network take grows with the pixels of a batch, beside what each
image and each step takes whatever its size. A step is measured phase by phase
(`mmrev.measure.phases`) with one image and with two, small ones and larger ones. How
each phase grows follows from that, and the peak at another size is that of the phase
which is the highest there.

Two images are measured at both sizes because some layers copy what for one image alone
is a view.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from mmrev.measure.phases import Phase

__all__ = ["Sample", "StepCosts", "WeightCosts"]


@dataclass(frozen=True)
class WeightCosts:
    """Bytes that the weights of a model bring along, whatever its images.

    Attributes:
        weights: of parameters and buffers.
        gradients: of the parameters that are trained.
        state: of the optimizer.
        copies: of the weights: an average, those of sharpness-aware steps.
        update: what the optimizer takes beside all of these while it steps.
        gathered: the parameters that a device which has a share of them holds whole at
            a time: those in no block, and of the largest block twice.
    """

    weights: int
    gradients: int
    state: int
    copies: int
    update: int
    gathered: int


@dataclass(frozen=True)
class Sample:
    """A step as measured.

    Attributes:
        size: height and width of the images, pixels.
        batch: images.
        phases: of the step.
    """

    size: tuple[int, int]
    batch: int
    phases: list[Phase]


class StepCosts:
    """How the memory of a step in one memory mode and precision grows with its batch.

    Args:
        weights: of the model.
        samples: with one and two images, of two sizes; one size tells of no other.
    """

    def __init__(self, weights: WeightCosts, samples: Sequence[Sample]):
        self.weights = weights
        names = {tuple(phase.name for phase in one.phases) for one in samples}
        steps = [one.phases for one in samples]
        if len(names) > 1:  # as one phase: the highest, beside all gradients
            steps = [[_together(step)] for step in steps]
        features = np.array([_features(one.batch, one.size) for one in samples])
        peaks = np.array([[phase.peak for phase in step] for step in steps], float)
        self._growth = np.linalg.lstsq(features, peaks, rcond=None)[0]
        self._gradients = np.array([phase.gradients for phase in steps[0]], float)

    def peak(
        self, batch: int, size: tuple[int, int], sharding: str = "none", gpus: int = 1
    ) -> float:
        """Bytes of a whole training at its peak, on each of its devices.

        Of processes that share gradients or weights it is computed, from how torch's
        DistributedDataParallel and `fully_shard` work, not measured.

        Args:
            batch: images on a device.
            size: height and width of the images, pixels.
            sharding: 'none'; 'ddp', each device holds all weights, and the gradients a
                second time in buckets; 'fsdp', a share of weights, gradients and
                optimizer, and what is gathered, with its gradients.
            gpus: devices.
        """
        shares = gpus if sharding == "fsdp" else 1
        own = self.weights
        held = (own.weights + own.state + own.copies) / shares
        beside = {"none": 0, "ddp": own.gradients, "fsdp": 2 * own.gathered}[sharding]
        step = _features(batch, size) @ self._growth + self._gradients / shares
        update = (own.gradients + own.update) / shares
        return float(held + beside + max(step.max(), update))


def _features(batch: int, size: tuple[int, int]) -> np.ndarray:
    """What costs grow with: steps, images, and the megapixels of one and of all."""
    pixels = prod(size) / 1e6
    return np.array([1, batch, pixels, batch * pixels])


def _together(phases: Sequence[Phase]) -> Phase:
    return Phase("", max(p.peak for p in phases), phases[-1].gradients)
